cwlVersion: v1.2
class: CommandLineTool
label: Write a report on several texts
doc: |
  Gathers what the steps before found out. Each of the three inputs has one entry a text, in the same order.

baseCommand: python3
arguments: [$(inputs.script.path)]
stdout: report.txt

inputs:
  texts:
    type: File[]
    inputBinding: {prefix: --texts, position: 1}
  counts:
    type: File[]
    doc: From wordcount.cwl.
    inputBinding: {prefix: --counts, position: 2}
  frequent:
    type: File[]
    doc: From frequent-words.cwl.
    inputBinding: {prefix: --frequent, position: 3}
  script:
    type: File
    default: {class: File, location: report.py}

outputs:
  report:
    type: stdout
    doc: A table for people to read.
