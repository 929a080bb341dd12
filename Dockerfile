# docker build -t summarizer . && docker run --rm -v "$PWD/outputs:/app/outputs" summarizer
# Other jobs: docker run ... summarizer task=predict input=article.txt. Tests: docker run --rm --entrypoint make summarizer test
# With a GPU (NVIDIA's container toolkit): docker run --gpus all ... summarizer hardware=h100
FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends git make openssh-client rsync && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY . .
RUN make install
ENTRYPOINT [".venv/bin/python", "-m", "summarizer"]
