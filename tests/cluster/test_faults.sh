#!/usr/bin/env bash
# The fault suite in its short form: some tens of faults, from the same seed each time.
export SEED=${SEED:-2026}
export FAULT_SECONDS=${FAULT_SECONDS:-75}
. "$(dirname "$0")/../fault/suite.sh"
