cwlVersion: v1.2
class: CommandLineTool
label: Find the most frequent words of a text
doc: |
  Runs frequent-words.sh, a pipeline of POSIX tools. The script is an input with a default, so that the
  runner puts it where the tool runs, in a container too.

baseCommand: sh
arguments:
  - $(inputs.script.path)
  - $(inputs.how_many)
stdin: $(inputs.text.path)
stdout: $(inputs.text.nameroot).frequent

inputs:
  text:
    type: File
    doc: Plain text.
  how_many:
    type: int
    default: 5
    doc: How many words to list.
  script:
    type: File
    default: {class: File, location: frequent-words.sh}

outputs:
  frequent:
    type: stdout
    doc: A line for each word, its count and itself separated by a tab, the most frequent first.
