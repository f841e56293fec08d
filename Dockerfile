# pygate as one directory that needs no Python: built in the first stage, run in the second.
#
#   docker build -t pygate .
#   docker run --read-only --tmpfs /run/pygate:mode=1777 -v pygate-audit:/var/lib/pygate \
#       -v ./pygate.toml:/etc/pygate/pygate.toml:ro -p 8080:8080 pygate
#
# Listen on 0.0.0.0 inside, and set `audit.dir = "/var/lib/pygate/audit"`. Both bases must be Debian 12.
ARG TOOLCHAIN=rust:1-bookworm
ARG BASE=debian:bookworm-slim

FROM ${TOOLCHAIN} AS build
RUN apt-get update && apt-get install --yes --no-install-recommends libpython3.11 make python3 python3-venv
WORKDIR /source
COPY . .
RUN make dist

FROM ${BASE} AS image
RUN useradd --system --uid 900 --shell /usr/sbin/nologin --home-dir /var/lib/pygate pygate \
    && install --directory --owner pygate --mode 0700 /var/lib/pygate /run/pygate
COPY --from=build /source/dist/pygate /opt/pygate
ENV PATH=/opt/pygate:$PATH RUNTIME_DIRECTORY=/run/pygate
USER pygate
WORKDIR /var/lib/pygate
VOLUME /var/lib/pygate
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["pygate", "ready"]
ENTRYPOINT ["pygate"]
CMD ["run", "-c", "/etc/pygate/pygate.toml"]
