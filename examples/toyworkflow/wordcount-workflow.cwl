cwlVersion: v1.2
class: Workflow
label: Count the words of several texts, and report
doc: |
  Counts the words of every text and finds its most frequent ones, side by side (scatter runs a step once
  for each text), then gathers everything in one report.

requirements:
  ScatterFeatureRequirement: {}

inputs:
  texts:
    type: File[]
    doc: Plain texts.
  how_many:
    type: int
    default: 5
    doc: How many frequent words to list for each text.

steps:
  count:
    run: wordcount.cwl
    scatter: text
    in: {text: texts}
    out: [count]

  find_frequent:
    run: frequent-words.cwl
    scatter: text
    in: {text: texts, how_many: how_many}
    out: [frequent]

  write_report:
    run: report.cwl
    in: {texts: texts, counts: count/count, frequent: find_frequent/frequent}
    out: [report]

outputs:
  report:
    type: File
    outputSource: write_report/report
  counts:
    type: File[]
    outputSource: count/count
