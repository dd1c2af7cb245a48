{{/* The node plugin's container: (dict "root" $ "name" … "port" its name "address" where its metrics and probes are).
The plugin and its standby are the same but for these. */}}
{{- define "coffer.plugin" -}}
{{- $values := .root.Values -}}
{{- $kubelet := $values.linux.kubeletRootDir | trimSuffix "/" -}}
{{- $ca := include "coffer.caSecret" .root -}}
{{- $more := default list $values.linux.additionalProvidersDirs -}}
- name: {{ .name }}
  image: {{ include "coffer.image" .root }}
  imagePullPolicy: {{ $values.image.pullPolicy }}
  command: [/usr/bin/coffer-csi]
  args:
    - --endpoint=unix:///csi/csi.sock
    - --nodeid=$(KUBE_NODE_NAME)
    - --driver-name={{ $values.csi.driverName }}
    - --kubelet-root={{ $kubelet }}
    - --plugin-registration-dir=/registration
    - --kubelet-registration-path={{ include "coffer.pluginFolder" .root }}/csi.sock
    {{- if $values.linux.keeper.enabled }}
    - --keeper-socket=/csi/keeper/keeper.sock
    {{- end }}
    - --vault-addr={{ include "coffer.address" .root }}
    - --vault-mount={{ $values.csi.vaultAuthMount }}
    {{- if $ca }}
    - --vault-tls-ca-cert=/etc/coffer/ca/ca.crt
    {{- end }}
    - --metrics-addr={{ .address }}
    - --admin-socket=/csi/admin.sock
    {{- if $values.linux.audit.enabled }}
    - --audit-log=/var/log/coffer/audit.log
    - --state-dir=/var/log/coffer
    {{- end }}
    {{- if $values.linux.startupTaint.enabled }}
    - --remove-startup-taint
    {{- end }}
    - --provider-volume=/providers/0
    {{- if $more }}
    - --additional-provider-volume-paths={{ range $i, $_ := $more }}{{ if $i }},{{ end }}/providers/{{ add1 $i }}{{ end }}
    {{- end }}
    - --enable-secret-rotation={{ $values.enableSecretRotation }}
    - --rotation-poll-interval={{ $values.rotationPollInterval }}
    - --log-format-json={{ $values.logFormatJSON }}
    - -v={{ $values.logVerbosity }}
    {{- with $values.linux.extraArgs }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  env:
    - name: KUBE_NODE_NAME
      valueFrom:
        fieldRef:
          fieldPath: spec.nodeName
    # Its own pod, where its own events go.
    {{- range $name, $field := dict "POD_NAME" "metadata.name" "POD_NAMESPACE" "metadata.namespace" "POD_UID" "metadata.uid" }}
    - name: {{ $name }}
      valueFrom:
        fieldRef:
          fieldPath: {{ $field }}
    {{- end }}
    {{- with $values.linux.env }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  # Kubernetes allows Bidirectional mounts to privileged containers alone. What that leaves to take
  # away: the root file system is read-only, no network of the host, no processes of it.
  securityContext:
    privileged: true
    runAsUser: 0
    runAsGroup: 0
    readOnlyRootFilesystem: true
  # What it said last is what `kubectl describe pod` shows of one that doesn't start.
  terminationMessagePolicy: FallbackToLogsOnError
  startupProbe:
    httpGet:
      path: /healthz
      port: {{ .port }}
    periodSeconds: 2
    failureThreshold: 60
  readinessProbe:
    httpGet:
      path: /readyz
      port: {{ .port }}
    periodSeconds: 10
    timeoutSeconds: 5
  livenessProbe:
    httpGet:
      path: /healthz
      port: {{ .port }}
    {{- if $values.linux.keeper.enabled }}
    periodSeconds: 10
    failureThreshold: 6
    timeoutSeconds: 10
    {{- else }}
    # A restart takes the volumes of running pods with it: only after minutes without an answer.
    periodSeconds: 30
    failureThreshold: 10
    timeoutSeconds: 20
    {{- end }}
  ports:
    - name: {{ .port }}
      containerPort: {{ trimPrefix ":" .address }}
  resources:
    {{- toYaml $values.linux.resources | nindent 4 }}
  volumeMounts:
    - name: plugin
      mountPath: /csi
    - name: kubeletrootdir-registration
      mountPath: /registration
    - name: kubeletrootdir-pods
      mountPath: {{ $kubelet }}/pods
      mountPropagation: Bidirectional
    {{- range $i, $_ := prepend $more $values.linux.providersDir }}
    - name: providers-{{ $i }}
      mountPath: /providers/{{ $i }}
    {{- end }}
    {{- if $values.linux.audit.enabled }}
    - name: audit
      mountPath: /var/log/coffer
    {{- end }}
    {{- if $ca }}
    - name: ca
      mountPath: /etc/coffer/ca
      readOnly: true
    {{- end }}
{{- end }}
