# The packages that the jobs need; the project itself is mounted. `make image` turns it into dmemm.sif for Snakemake.
FROM python:3.11-slim
# To draw robots.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libegl1 libgl1 \
    && rm -rf /var/lib/apt/lists/*
COPY requirements.lock /tmp/
RUN pip install --no-cache-dir --requirement /tmp/requirements.lock
WORKDIR /project
