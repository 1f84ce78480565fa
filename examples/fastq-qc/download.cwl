cwlVersion: v1.2
class: CommandLineTool
label: Download a file and verify it
doc: Runs download.py, which needs nothing but Python.

requirements:
  NetworkAccess: {networkAccess: true}

baseCommand: python3
arguments: [$(inputs.script.path), --into, download]

inputs:
  url:
    type: string
    inputBinding: {position: 1}
    doc: An http, https or file address; or a path relative to base.
  base:
    type: Directory?
    inputBinding: {prefix: --base}
    doc: Where a relative url starts.
  sha256:
    type: string
    inputBinding: {prefix: --sha256}
    doc: The SHA-256 that the file must have, in hexadecimal digits.
  script:
    type: File
    default: {class: File, location: download.py}

outputs:
  file:
    type: File
    outputBinding: {glob: download/*}
    doc: The file, named after the last part of the url.
