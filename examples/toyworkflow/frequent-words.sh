#!/bin/sh
# Prints the $1 most frequent words of standard input as COUNT<tab>WORD, words of equal count in
# alphabetical order. A word is made of letters, hyphens and apostrophes; case does not matter.
set -eu
LC_ALL=C
export LC_ALL

tr -cs "A-Za-z'-" '\n' |
    tr A-Z a-z |
    grep . |
    sort |
    uniq -c |
    sort -k1,1nr -k2,2 |
    awk -v most="$1" 'NR <= most { print $1 "\t" $2 }'
