{{- define "alinas-csi.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "alinas-csi.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "alinas-csi.labels" -}}
{{ include "alinas-csi.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "alinas-csi.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "alinas-csi.controllerServiceAccountName" -}}
{{- .Values.controller.serviceAccount.name | default (printf "%s-controller" (include "alinas-csi.fullname" .)) -}}
{{- end -}}

{{- define "alinas-csi.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (printf "%s-node" (include "alinas-csi.fullname" .)) -}}
{{- end -}}

{{/* Whether the node plugin has something to do with the API server. */}}
{{- define "alinas-csi.nodeTalks" -}}
{{- if or .Values.events.enabled .Values.topology.enabled .Values.node.startupTaint -}}yes{{- end -}}
{{- end -}}
