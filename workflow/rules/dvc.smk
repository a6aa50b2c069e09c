# Snakemake's memory (.snakemake) and DVC's (dvc.lock) kept equal: workflow/dvc_bridge.py says how.
from workflow import dvc_bridge

if workflow.is_main_process:
    dvc_bridge.adopt(workflow, [pair for task in TASKS.values() for pair in named_files(task)])


onstart:
    dvc_bridge.clear(workflow)


onsuccess:
    dvc_bridge.commit(workflow)


onerror:
    dvc_bridge.commit(workflow)
