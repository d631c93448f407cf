# syntax=docker/dockerfile:1
# birefnet as a server, in two sizes:
#   docker build --target cpu -t birefnet:cpu .      # OpenVINO, no PyTorch: about 0.85 GB
#   docker build --target cuda -t birefnet:cuda .    # PyTorch with CUDA: some gigabytes

ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY comfyui comfyui
COPY src src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim AS base
ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    HF_HOME=/models/huggingface \
    XDG_CACHE_HOME=/models/cache
RUN useradd --create-home --uid 10001 birefnet \
    && mkdir /models \
    && chown birefnet /models
COPY constraints.txt /tmp/constraints.txt
COPY --from=wheel /wheels /wheels

FROM base AS cpu
RUN pip install -c /tmp/constraints.txt "$(echo /wheels/birefnet-*.whl)[serve,video,openvino,heif]"
USER birefnet
VOLUME /models
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/ready')"]
# No shell between Docker and the server: SIGTERM reaches it, and requests under way are finished.
ENTRYPOINT ["birefnet", "serve", "--host", "0.0.0.0", "--port", "8000"]

FROM base AS cuda
# Torch's wheels bring CUDA; the NVIDIA container toolkit brings the driver.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN pip install -c /tmp/constraints.txt "$(echo /wheels/birefnet-*.whl)[torch,serve,video,heif]"
USER birefnet
VOLUME /models
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/ready')"]
ENTRYPOINT ["birefnet", "serve", "--host", "0.0.0.0", "--port", "8000", "--device", "cuda"]
