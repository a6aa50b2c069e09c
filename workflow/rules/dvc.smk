# After each run DVC records what there is (workflow/record.py).
onstart:
    record.begin()


onsuccess:
    record.finish()


onerror:
    record.finish()
