# One image for the API and the workers. It installs from the same lock file as `make`.
#
#   docker build -t labelprop .
#   docker run -p 8000:8000 -v labelprop:/data labelprop        everything in one container
#   docker compose up                                           a process a container, see docker-compose.yml

FROM python:3.12-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/labelprop
WORKDIR /src
# The lock file first: its layer is built anew only when it changes.
COPY requirements.lock ./
RUN /opt/labelprop/bin/pip install -r requirements.lock
COPY pyproject.toml README.md ./
COPY model ./model
COPY app ./app
COPY worker ./worker
RUN /opt/labelprop/bin/pip install --no-deps --no-build-isolation .

FROM python:3.12-slim-bookworm
COPY --from=build /opt/labelprop /opt/labelprop
RUN useradd --system --uid 10001 --create-home labelprop && install -d -o labelprop -g labelprop /data
USER labelprop
WORKDIR /data
ENV PATH=/opt/labelprop/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    LABELPROP_HOME=/data \
    LABELPROP_HOST=0.0.0.0
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
ENTRYPOINT ["labelprop"]
CMD ["serve"]
