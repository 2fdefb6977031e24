{{/*
The objects of folders of docker/kubernetes, in this release's namespace and with its values.
Takes a dict: root (the chart's scope) and folder.
*/}}
{{- define "slipway.folder" -}}
{{- $root := .root -}}
{{- range $path, $_ := $root.Files.Glob (printf "%s/*.yaml" .folder) }}
{{- if not (hasSuffix "/kustomization.yaml" $path) }}
{{- range $text := splitList "\n---\n" (include "slipway.values" (dict "root" $root "text" ($root.Files.Get $path))) }}
{{- $body := fromYaml $text }}
{{- if and $body.kind (eq (include "slipway.isWanted" (dict "root" $root "body" $body)) "true") }}
---
{{ include "slipway.object" (dict "root" $root "body" $body) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* A manifest's text with this release's images, claim, root and namespace. */}}
{{- define "slipway.values" -}}
{{- $values := .root.Values -}}
{{- .text
  | replace "localhost/slipway-components:1" $values.images.components
  | replace "localhost/slipway-serving:1" $values.images.serving
  | replace "postgres:17.2-bookworm" $values.images.postgres
  | replace "claimName: slipway-storage" (printf "claimName: %s" $values.storage.claim)
  | replace "--root=/slipway/artifacts" (printf "--root=%s" $values.root)
  | replace ".slipway.svc" (printf ".%s.svc" .root.Release.Namespace) -}}
{{- end }}

{{- define "slipway.isWanted" -}}
{{- $values := .root.Values -}}
{{- if eq .body.kind "Namespace" -}}
false
{{- else if eq .body.kind "PersistentVolumeClaim" -}}
{{ $values.storage.create }}
{{- else if eq .body.kind "NetworkPolicy" -}}
{{ $values.networkPolicies.enabled }}
{{- else -}}
true
{{- end -}}
{{- end }}

{{/* One object: its namespace, labels, and what of values and overrides is about it. */}}
{{- define "slipway.object" -}}
{{- $root := .root }}{{ $body := .body }}{{ $values := $root.Values }}{{ $own := $root.Release.Namespace -}}
{{- $labels := dict "app.kubernetes.io/part-of" "slipway" "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version) }}
{{- $_ := set $body.metadata "labels" (merge (default dict $body.metadata.labels) $labels) }}
{{- if hasPrefix "ClusterRole" $body.kind }}
{{- /* of the whole cluster: one for each team */}}
{{- $_ := set $body.metadata "name" (include "slipway.clusterName" (dict "name" $body.metadata.name "namespace" $own)) }}
{{- if $body.roleRef }}
{{- $_ := set $body.roleRef "name" (include "slipway.clusterName" (dict "name" $body.roleRef.name "namespace" $own)) }}
{{- end }}
{{- else }}
{{- $_ := set $body.metadata "namespace" $own }}
{{- end }}
{{- range $body.subjects }}
{{- if .namespace }}{{ $_ := set . "namespace" $own }}{{ end }}
{{- end }}
{{- if eq $body.kind "PersistentVolumeClaim" }}
{{- $_ := set $body.metadata "name" $values.storage.claim }}
{{- $_ := set $body.spec "storageClassName" $values.storage.storageClassName }}
{{- if $values.storage.volumeName }}{{ $_ := set $body.spec "volumeName" $values.storage.volumeName }}{{ end }}
{{- $_ := set $body.spec.resources.requests "storage" $values.storage.size }}
{{- end }}
{{- if has $body.kind (list "Deployment" "StatefulSet") }}
{{- if eq $body.metadata.name "slipway-envoy" }}{{ $_ := set $body.spec "replicas" $values.serving.envoys }}{{ end }}
{{- if $values.images.pullSecrets }}
{{- $names := list }}
{{- range $values.images.pullSecrets }}{{ $names = append $names (dict "name" .) }}{{ end }}
{{- $_ := set $body.spec.template.spec "imagePullSecrets" $names }}
{{- end }}
{{- end }}
{{- $over := get $values.overrides (printf "%s/%s" $body.kind $body.metadata.name) }}
{{- if $over }}{{ $body = mergeOverwrite $body (deepCopy $over) }}{{ end }}
{{- toYaml $body }}
{{- end }}

{{- define "slipway.clusterName" -}}
{{- if eq .namespace "slipway" }}{{ .name }}{{ else }}{{ .name }}-{{ .namespace }}{{ end }}
{{- end }}
