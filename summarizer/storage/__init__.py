"""A job's second home, in a bucket or a folder that outlives its machine: `storage=s3://bucket/prefix`.

Each job has `<storage>/<number>/`: the files of its folder as objects named by their content, a manifest that is written last, and
an owner. `<storage>/data/` holds prepared data. It knows a job's folder and fsspec, and nothing of training or of clouds.
"""
