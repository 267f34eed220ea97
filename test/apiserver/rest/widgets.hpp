#pragma once

#include <string>

/// A small CRD of the tests' own: defaults, a list map, a CEL rule, columns, a status subresource,
/// a selectable field.
inline const std::string kWidgetCrd = R"yaml(
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.test.example}
spec:
  group: test.example
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, listKind: WidgetList, shortNames: [wd], categories: [tests]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    selectableFields:
    - jsonPath: .spec.color
    additionalPrinterColumns:
    - {name: Color, type: string, jsonPath: .spec.color}
    - {name: Size, type: integer, jsonPath: .spec.size, priority: 1}
    - {name: Ready, type: string, jsonPath: '.status.conditions[?(@.type=="Ready")].status'}
    schema:
      openAPIV3Schema:
        type: object
        description: A widget.
        required: [spec]
        properties:
          apiVersion: {type: string}
          kind: {type: string}
          metadata: {type: object}
          spec:
            type: object
            description: spec is what is wanted.
            required: [color]
            x-kubernetes-validations:
            - {rule: 'self.size <= 10', message: '`size` must be at most 10'}
            properties:
              color: {type: string, description: color is how it looks., maxLength: 20, enum: [red, green, blue]}
              size: {type: integer, format: int32, default: 1, minimum: 0}
              parts:
                type: array
                maxItems: 10
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [name]
                items:
                  type: object
                  required: [name]
                  properties:
                    name: {type: string, maxLength: 20}
                    count: {type: integer, format: int32}
          status:
            type: object
            properties:
              observedGeneration: {type: integer, format: int64}
              conditions:
                type: array
                maxItems: 8
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [type]
                items:
                  type: object
                  required: [type, status, reason]
                  properties:
                    type: {type: string, maxLength: 50}
                    status: {type: string, maxLength: 10}
                    reason: {type: string, maxLength: 50}
                    message: {type: string, maxLength: 1000}
                    lastTransitionTime: {type: string, format: date-time}
                    observedGeneration: {type: integer, format: int64}
)yaml";
