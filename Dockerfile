# The studio in a container, over the folder `work`:
#   docker build -t dlm-studio . && docker run --rm -p 127.0.0.1:7860:7860 -v "$PWD/work:/work" dlm-studio
FROM python:3.11-slim

COPY pyproject.toml README.md LICENSE /src/
COPY dlm_control /src/dlm_control
COPY controllers /src/controllers
COPY tasks /src/tasks
COPY eval /src/eval

# torch's own index has it without CUDA, which nothing here uses.
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu '/src[studio]' \
    && rm -r /src \
    && useradd --create-home --uid 1000 writer \
    && install --directory --owner writer /work

USER 1000
WORKDIR /work
EXPOSE 7860
ENTRYPOINT ["dlm", "studio", "--host", "0.0.0.0"]
