# Two images:
#   docker build -t edgekd .                        training on CUDA servers
#   docker build -t edgekd-agent --target agent .   the agent alone, for a device with a container runtime
#
#   docker run --gpus all --ipc host -v "$PWD":/data edgekd run /data/recipe.yaml --out /data/runs/x

FROM python:3.11-slim AS agent
RUN pip install --no-cache-dir numpy onnxruntime openvino
COPY edgekd/agent /opt/edgekd/agent
WORKDIR /data
USER nobody
ENV PYTHONPATH=/opt/edgekd PYTHONDONTWRITEBYTECODE=1
ENTRYPOINT ["python", "-m", "agent"]

# The CUDA libraries come with the torch wheels, so the base needs the driver of the host only.
FROM python:3.11-slim AS train
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/edgekd
COPY . .
RUN make install VENV=/opt/venv && rm -rf /root/.cache
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /data
ENTRYPOINT ["edgekd"]
CMD ["--help"]
