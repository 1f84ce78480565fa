cwlVersion: v1.2
class: CommandLineTool
label: Control the quality of sequencing reads
doc: |
  Runs Sequali on a FASTQ file, compressed or not. The report is one HTML file with its figures in it: it opens
  in any browser, without a network.

hints:
  SoftwareRequirement:
    packages:
      sequali:
        version: [1.0.2]
        specs: [https://github.com/rhpvorderman/sequali]
  ResourceRequirement:
    coresMin: 1

baseCommand: sequali
arguments: [--threads, $(runtime.cores), --html, report.html, --json, report.json]

inputs:
  reads:
    type: File
    inputBinding: {position: 1}

outputs:
  html:
    type: File
    outputBinding: {glob: report.html}
    doc: The report for people.
  json:
    type: File
    outputBinding: {glob: report.json}
    doc: The same for programs.
