cwlVersion: v1.2
class: Workflow
label: Download sequencing reads, control their quality, save the results
doc: |
  Downloads a FASTQ file, has Sequali report on its quality and counts its reads meanwhile, and saves report
  and summary in one directory with checksums.

requirements:
  MultipleInputFeatureRequirement: {}

inputs:
  url:
    type: string
    doc: The FASTQ file, compressed or not; an http, https or file address, or a path relative to base.
  base:
    type: Directory?
    doc: Where a relative url starts.
  sha256:
    type: string
    doc: The SHA-256 that the file must have, in hexadecimal digits.

steps:
  download:
    run: download.cwl
    in: {url: url, base: base, sha256: sha256}
    out: [file]

  quality:
    run: quality.cwl
    in: {reads: download/file}
    out: [html, json]

  summarize:
    run: summarize.cwl
    in: {reads: download/file}
    out: [summary]

  save:
    run: save.cwl
    in:
      files:
        source: [quality/html, quality/json, summarize/summary]
    out: [directory]

outputs:
  results:
    type: Directory
    outputSource: save/directory
    doc: report.html, report.json, summary.json and SHA256SUMS.
