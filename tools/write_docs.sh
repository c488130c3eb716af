#!/bin/sh
# Writes docs/configuration.md from the keys that build/reid knows; a test compares the two.
set -eu
cd "$(dirname "$0")/.."
reid=${REID:-build/reid}
{
  cat <<'TEXT'
# Configuration keys

A configuration is a TOML file (examples: `configs/`); `reid train CONFIG key=value ...` replaces single values. Unknown keys, wrong types and
values out of range are refused. `reid keys METHOD --toml` prints a file with all defaults of a recipe ([methods](methods.md)). This page is written by `tools/write_docs.sh`.

**Origin** says where a default comes from:

- *published*: stated by the authors of the method, in what we could read of the paper, their article or their code;
- *inferred*: not seen in print for it; reconstructed from the code that its losses descend from, or by reasoning. Not to be quoted as the paper's;
- *engineering*: ours, needed to run.

TEXT
  for method in remix supervised cluster-contrast pplr; do
    printf '## Method `%s`\n\n' $method
    "$reid" keys $method --markdown
  done
} >docs/configuration.md.part
mv docs/configuration.md.part docs/configuration.md
