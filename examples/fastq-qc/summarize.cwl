cwlVersion: v1.2
class: CommandLineTool
label: Count reads and bases, and their quality and GC content
doc: Runs summarize.py, which needs nothing but Python.

baseCommand: python3
arguments: [$(inputs.script.path)]
stdout: summary.json

inputs:
  reads:
    type: File
    inputBinding: {position: 1}
    doc: A FASTQ file, compressed with gzip or not.
  script:
    type: File
    default: {class: File, location: summarize.py}

outputs:
  summary:
    type: stdout
    doc: A JSON object, {reads, bases, mean_quality, gc_percent}.
