"""Schema migrations of the SQL stores: one folder a store, run by `store_runtime.migrations.runner`.

File names are `NNNN_pre_words.py` or `NNNN_post_words.py`: after a *pre* migration code of the version before still
runs; a *post* one waits until no such code runs any more.
"""
