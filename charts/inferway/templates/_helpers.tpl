{{/* Names and labels that every object of the chart shares. */}}

{{- define "inferway.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 53 | trimSuffix "-" -}}
{{- end -}}

{{/* The chart's name alone when the release has it already, so that nothing is said twice. */}}
{{- define "inferway.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "inferway.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "inferway.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "inferway.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Cluster-wide names carry the namespace, so that two releases do not share them. */}}
{{- define "inferway.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "inferway.fullname" .) -}}
{{- end -}}

{{- define "inferway.selectorLabels" -}}
app.kubernetes.io/name: {{ include "inferway.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: gateway-controller
{{- end -}}

{{- define "inferway.labels" -}}
{{ include "inferway.selectorLabels" . }}
app.kubernetes.io/part-of: inferway
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}
