{{/* The name of everything: the release's, shortened to leave room for suffixes. */}}
{{- define "storekeeper.name" -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "storekeeper.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "storekeeper.name" .) }}
{{- end }}

{{/* Cluster-wide names must differ between releases of equal names in different namespaces. */}}
{{- define "storekeeper.clusterName" -}}
{{ printf "%s-%s" .Release.Namespace .Release.Name | trunc 55 | trimSuffix "-" }}
{{- end }}

{{- define "storekeeper.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "storekeeper.selector" -}}
app.kubernetes.io/name: storekeeper-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "storekeeper.labels" -}}
{{ include "storekeeper.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* As JSON, to be read with fromJsonArray. */}}
{{- define "storekeeper.namespaces" -}}
{{ .Values.scope.namespaces | default (list .Release.Namespace) | uniq | toJson }}
{{- end }}

{{/* Pod Security "restricted". */}}
{{- define "storekeeper.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "storekeeper.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Which cluster, which namespaces, which lease: what the operator and its uninstalling job have in common. */}}
{{- define "storekeeper.scopeEnvironment" -}}
- name: STOREKEEPER_NAMESPACE
  value: {{ .Release.Namespace | quote }}
- name: STOREKEEPER_CLUSTER_WIDE
  value: {{ .Values.scope.clusterWide | quote }}
{{- if not .Values.scope.clusterWide }}
- name: STOREKEEPER_NAMESPACES
  value: {{ include "storekeeper.namespaces" . | fromJsonArray | join "," | quote }}
{{- end }}
- name: STOREKEEPER_LEASE_NAME
  value: {{ include "storekeeper.name" . | quote }}
{{- end }}

{{/* The operator's rights on what it serves. Secrets: create and delete, and nothing that answers with their content. */}}
{{- define "storekeeper.rules" -}}
- apiGroups: [storekeeper.dev]
  resources: [logstores, runtimestores, streams]
  verbs: [get, list, watch, patch]
- apiGroups: [storekeeper.dev]
  resources: [logstores/status, runtimestores/status, streams/status]
  verbs: [patch]
# To own children that block the owner's deletion, where the API server checks it (OpenShift does).
- apiGroups: [storekeeper.dev]
  resources: [logstores/finalizers, runtimestores/finalizers]
  verbs: [update]
- apiGroups: [""]
  resources: [secrets]
  verbs: [create, delete]
- apiGroups: [""]
  resources: [configmaps, persistentvolumeclaims, serviceaccounts, services]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments, statefulsets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [batch]
  resources: [cronjobs, jobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
# Why a pod does not start.
- apiGroups: [""]
  resources: [events]
  verbs: [list]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
# Whether a namespace is going away.
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get]
{{- end }}
