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

{{/* Where clients in the cluster reach the keystore; a name without the cluster's domain. */}}
{{- define "coffer.address" -}}
{{- if .Values.csi.vaultAddress -}}{{ .Values.csi.vaultAddress }}
{{- else if .Values.server.enabled -}}
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
{{- if and .Values.server.enabled (not .Values.global.tlsDisable) (not .Values.server.tlsSecret) }}
{{- fail "global.tlsDisable is false: name the Secret with tls.crt, tls.key and ca.crt in server.tlsSecret" }}
{{- end }}
{{- if and (not .Values.linux.keeper.enabled) (dig "rollingUpdate" "maxSurge" 0 .Values.linux.updateStrategy) }}
{{- fail "linux.updateStrategy.rollingUpdate.maxSurge: two plugins on a node need linux.keeper.enabled, which says whose turn it is; without it use OnDelete, or maxSurge: 0" }}
{{- end }}
{{- if eq .Values.linux.metricsAddr .Values.linux.standby.metricsAddr }}
{{- fail "linux.standby.metricsAddr: plugin and standby share the pod's network; give it another port than linux.metricsAddr" }}
{{- end }}
{{- if and .Values.csi.enabled (not (include "coffer.address" .)) }}
{{- fail "server.enabled is false: name the keystore for classes without vaultAddress in csi.vaultAddress" }}
{{- end }}
{{- end }}
