{{/* What the pods of the two hook Jobs have in common. */}}
{{- define "storekeeper.hookPod" -}}
serviceAccountName: {{ .account }}
restartPolicy: OnFailure
enableServiceLinks: false
securityContext:
  {{- include "storekeeper.podSecurity" .context | nindent 2 }}
{{- with .context.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .context.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .context.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  - name: scratch
    emptyDir: {sizeLimit: 16Mi}
{{- end }}

{{- define "storekeeper.hookContainer" -}}
securityContext:
  {{- include "storekeeper.containerSecurity" . | nindent 2 }}
resources:
  requests: {cpu: 50m, memory: 64Mi}
  limits: {memory: 256Mi}
volumeMounts:
  - name: scratch
    mountPath: /tmp
{{- end }}
