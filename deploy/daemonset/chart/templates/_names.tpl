{{/* Names, labels and what several manifests share. */}}
{{- define "coffer.name" -}}
{{- .Values.fullnameOverride | default .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "coffer.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}
{{- else -}}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* (dict "root" $ "component" "server") */}}
{{- define "coffer.selector" -}}
app.kubernetes.io/name: coffer
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "coffer.labels" -}}
{{ include "coffer.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
{{- end }}

{{- define "coffer.serverAccount" -}}
{{- if .Values.server.serviceAccount.create -}}
{{ .Values.server.serviceAccount.name | default (include "coffer.name" .) }}
{{- else -}}
{{ .Values.server.serviceAccount.name | default "default" }}
{{- end -}}
{{- end }}

{{- define "coffer.scheme" -}}
{{ ternary "http" "https" .Values.global.tlsDisable }}
{{- end }}

{{/* Whether there is a keystore of this chart: not beside one that is named as in Vault's chart. */}}
{{- define "coffer.server" -}}
{{- if and .Values.server.enabled (not .Values.global.externalVaultAddr) }}true{{ end -}}
{{- end }}

{{/* Names of Secrets, or references to them. */}}
{{- define "coffer.imagePullSecrets" -}}
{{- with .Values.global.imagePullSecrets -}}
imagePullSecrets:
  {{- range . }}
  - {{ ternary (dict "name" .) . (kindIs "string" .) | toYaml }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Where the image's programs run, and what more is asked for. */}}
{{- define "coffer.nodeSelector" -}}
nodeSelector:
  {{- merge (dict) . (dict "kubernetes.io/os" "linux" "kubernetes.io/arch" "amd64") | toYaml | nindent 2 }}
{{- end }}

{{/* Where clients in the cluster reach the keystore; a name without the cluster's domain. */}}
{{- define "coffer.address" -}}
{{- if .Values.csi.vaultAddress -}}{{ .Values.csi.vaultAddress }}
{{- else if .Values.global.externalVaultAddr -}}{{ .Values.global.externalVaultAddr }}
{{- else if include "coffer.server" . -}}
{{ include "coffer.scheme" . }}://{{ include "coffer.name" . }}.{{ .Release.Namespace }}:{{ .Values.server.service.port }}
{{- end -}}
{{- end }}

{{- define "coffer.caSecret" -}}
{{- .Values.csi.caSecret | default (ternary "" .Values.server.tlsSecret .Values.global.tlsDisable) -}}
{{- end }}

{{/* Where the kubelet looks for the plugin's socket, on the node. */}}
{{- define "coffer.pluginFolder" -}}
{{ .Values.linux.kubeletRootDir | trimSuffix "/" }}/plugins/{{ .Values.csi.driverName }}
{{- end }}

{{/* With a keeper the next plugin stands by before the last one ends; without one volumes end with it. */}}
{{- define "coffer.updateStrategy" -}}
{{- if .Values.linux.updateStrategy -}}
{{ toYaml .Values.linux.updateStrategy }}
{{- else if .Values.linux.keeper.enabled -}}
type: RollingUpdate
rollingUpdate:
  maxSurge: 1
  maxUnavailable: 0
{{- else -}}
type: OnDelete
{{- end -}}
{{- end }}

{{/* A claim of the keystore: (dict "name" "data" "storage" .Values.server.dataStorage) */}}
{{- define "coffer.claim" -}}
- metadata:
    name: {{ .name }}
    {{- with .storage.annotations }}
    annotations:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .storage.labels }}
    labels:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  spec:
    accessModes: [{{ .storage.accessMode }}]
    {{- with .storage.storageClass }}
    storageClassName: {{ . }}
    {{- end }}
    resources:
      requests:
        storage: {{ .storage.size }}
{{- end }}

{{/* What a schema can't say well. */}}
{{- define "coffer.check" -}}
{{- if .Values.injector.enabled }}
{{- fail "injector.enabled: Coffer has no sidecar injector; docs/migrate.md says how annotations become a SecretProviderClass" }}
{{- end }}
{{- if and (include "coffer.server" .) (not .Values.global.tlsDisable) (not .Values.server.dev.enabled) (not .Values.server.tlsSecret) }}
{{- fail "global.tlsDisable is false: name the Secret with tls.crt, tls.key and ca.crt in server.tlsSecret" }}
{{- end }}
{{- if and (not .Values.linux.keeper.enabled) (dig "rollingUpdate" "maxSurge" 0 .Values.linux.updateStrategy) }}
{{- fail "linux.updateStrategy.rollingUpdate.maxSurge: two plugins on a node need linux.keeper.enabled, which says whose turn it is; without it use OnDelete, or maxSurge: 0" }}
{{- end }}
{{- if eq .Values.linux.metricsAddr .Values.linux.standby.metricsAddr }}
{{- fail "linux.standby.metricsAddr: plugin and standby share the pod's network; give it another port than linux.metricsAddr" }}
{{- end }}
{{- if and .Values.csi.enabled (not (include "coffer.address" .)) }}
{{- fail "server.enabled is false: name the keystore for classes without vaultAddress in csi.vaultAddress or global.externalVaultAddr" }}
{{- end }}
{{- if .Chart.IsRoot }}{{/* else other charts have values there, too */}}
{{- range $name, $_ := omit .Values.global "tlsDisable" "imagePullSecrets" "externalVaultAddr" }}
{{- fail (printf "global.%s means nothing here: take it out; there are global.tlsDisable, global.imagePullSecrets and global.externalVaultAddr" $name) }}
{{- end }}
{{- end }}
{{- if include "coffer.server" . }}
{{- include "coffer.checkServer" . }}
{{- end }}
{{- end }}

{{- define "coffer.checkServer" -}}
{{- $monitored := .Values.serverTelemetry.serviceMonitor.enabled }}
{{- if .Values.server.dev.enabled }}
{{- if not .Values.global.tlsDisable }}
{{- fail "server.dev.enabled: a server for trying things out has no certificate; leave global.tlsDisable true" }}
{{- end }}
{{- if $monitored }}
{{- fail "serverTelemetry.serviceMonitor.enabled: the metrics of server.dev.enabled can't be read without a token" }}
{{- end }}
{{- else if not .Values.server.standalone.enabled }}
{{- if not .Values.server.extraArgs }}
{{- fail "server.standalone.enabled is false: name a configuration of your own in server.extraArgs (-config=…, with server.volumes)" }}
{{- end }}
{{- else if and $monitored .Values.server.standalone.config (not (contains "unauthenticated_metrics_access" .Values.server.standalone.config)) }}
{{- fail "serverTelemetry.serviceMonitor.enabled: metrics are read without a token: server.standalone.config needs `telemetry { unauthenticated_metrics_access = true }` in its listener" }}
{{- end }}
{{- end }}
