cwlVersion: v1.2
class: Workflow
doc: What a worker's VM must be able to run. The toy workflow is beside this file in the clone.
requirements:
  SubworkflowFeatureRequirement: {}

inputs:
  texts: File[]

outputs:
  report: {type: File, outputSource: toy/report}
  said: {type: File, outputSource: container/said}

steps:
  toy:
    run: wordcount-workflow.cwl
    in: {texts: texts}
    out: [report]
  container:
    run: container.cwl
    in: {}
    out: [said]
