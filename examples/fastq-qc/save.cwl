cwlVersion: v1.2
class: CommandLineTool
label: Save files in one directory, with their checksums
doc: |
  Runs save.py, which needs nothing but Python. Here the results stay where the job ran; a site would send them
  to its archive in this step.

baseCommand: python3
arguments: [$(inputs.script.path), results]

inputs:
  files:
    type: File[]
    inputBinding: {position: 1}
  script:
    type: File
    default: {class: File, location: save.py}

outputs:
  directory:
    type: Directory
    outputBinding: {glob: results}
    doc: The files, and SHA256SUMS, which sha256sum --check understands.
