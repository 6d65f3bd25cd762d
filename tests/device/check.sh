#!/usr/bin/env bash
# What has to be seen on a card, most important first, within so many minutes, and one table at the end:
#
#   tests/device/check.sh 14                            all steps, each with a time limit of its own
#   STEPS=train,resume tests/device/check.sh 6          some of them
#   DEVICE=cpu PRESETS=bprmf,sclrec,sasrec tests/device/check.sh 5      a rehearsal, without a card and on small data
#
# Needs the packages of recot but for wandb, optuna and rich (the last for the step "bench" only), on PYTHONPATH or
# installed; neither pip nor make. OUT names a folder that gets the table as device.md. The step "row" wants RECOT_DATA.
set -u
cd "$(dirname "$0")/../.." || exit 2
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
export CUBLAS_WORKSPACE_CONFIG=:4096:8
exec "${PYTHON:-python3}" tests/device/check.py "${1:?how many minutes? tests/device/check.sh 14}"
