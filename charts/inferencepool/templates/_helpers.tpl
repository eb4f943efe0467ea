{{/* Names and labels that every object of the chart shares. */}}

{{/* The picker: the release's name cut to 40, because a Pod's name adds 17 to it. */}}
{{- define "inferencepool.picker" -}}
{{- printf "%s-epp" (.Release.Name | trunc 40 | trimSuffix "-") -}}
{{- end -}}

{{/* "true" when the image is Inferway's own, which has the fast path and many active replicas. */}}
{{- define "inferencepool.own" -}}
{{- if eq .Values.inferenceExtension.image.name "inferway" }}true{{ end -}}
{{- end -}}

{{- define "inferencepool.selectorLabels" -}}
inferencepool: {{ include "inferencepool.picker" . }}
{{- end -}}

{{- define "inferencepool.labels" -}}
app.kubernetes.io/name: {{ include "inferencepool.picker" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: endpoint-picker
app.kubernetes.io/part-of: inferway
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* Whether metrics want a token: what the value says, and where it says nothing, of another picker. */}}
{{- define "inferencepool.auth" -}}
{{- $said := .Values.inferenceExtension.monitoring.prometheus.auth.enabled -}}
{{- if kindIs "bool" $said -}}
{{- if $said }}true{{ end -}}
{{- else if not (include "inferencepool.own" .) -}}
true
{{- end -}}
{{- end -}}

{{/* Mistakes that a schema cannot word well. Each ends the rendering with what to type. */}}
{{- define "inferencepool.check" -}}
{{- if not .Values.inferencePool.modelServers.matchLabels -}}
{{- fail "inferencePool.modelServers.matchLabels is required: the labels of the model servers' Pods. Try --set inferencePool.modelServers.matchLabels.app=NAME" -}}
{{- end -}}
{{- $files := merge (dict "default-plugins.yaml" "") (default (dict) .Values.inferenceExtension.pluginsCustomConfig) -}}
{{- if not (hasKey $files .Values.inferenceExtension.pluginsConfigFile) -}}
{{- fail (printf "inferenceExtension.pluginsConfigFile is %s, which is not among the files %s. Add it to inferenceExtension.pluginsCustomConfig" .Values.inferenceExtension.pluginsConfigFile (keys $files | sortAlpha | join ", ")) -}}
{{- end -}}
{{- end -}}
