cwlVersion: v1.2
class: CommandLineTool
label: Count the words of a text
doc: Runs wc -w. The smallest tool there is; a job can run it as it is, and workflows use it as a step.

baseCommand: [wc, -w]
stdin: $(inputs.text.path)
stdout: $(inputs.text.nameroot).count

inputs:
  text:
    type: File
    doc: Plain text.

outputs:
  count:
    type: stdout
    doc: The number of words, alone, in a file named after the text.
