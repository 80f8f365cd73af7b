# The programs as images: docker build --target registrar|simple-amb|ambassador|dynproxy|grand-ambassador|ambctl .
# Plain Dockerfile syntax only, so that the classic builder (Docker 20.10) and BuildKit both take it. The layers of
# Python and of the dependencies are shared: three of the images differ by a few megabytes at most.

# ---- Python, the one runtime ---------------------------------------------------------------------------------------
FROM debian:trixie-slim AS python
LABEL project=etcd-ambassadors
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3-minimal libpython3-stdlib \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log \
 && useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin ambassador
# Output goes to the log line by line; the byte code is compiled below, once, and the file system may be read-only. One
# heap for all threads: what one of them frees another takes.
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/opt/ambassadors MALLOC_ARENA_MAX=1
LABEL org.opencontainers.image.vendor="etcd-ambassadors" \
      org.opencontainers.image.licenses="Apache-2.0"
WORKDIR /opt/ambassadors
STOPSIGNAL SIGTERM

# ---- the locked dependencies (this stage is not shipped) -----------------------------------------------------------
FROM debian:trixie-slim AS dependencies
LABEL project=etcd-ambassadors
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3-pip
COPY requirements.lock /build/
RUN pip install --no-cache-dir --require-hashes --only-binary :all: --target /opt/ambassadors \
        --requirement /build/requirements.lock \
 && rm -rf /opt/ambassadors/bin
# What draws on terminals is ambctl's alone.
RUN mkdir /opt/operator \
 && cd /opt/ambassadors \
 && mv rich* pygments* markdown_it* mdurl* shtab* /opt/operator/

# ---- our packages with their byte code (not shipped either) --------------------------------------------------------
FROM python AS source
COPY ambcore ambcore
COPY ambnet ambnet
COPY registrar registrar
COPY dynproxy dynproxy
COPY simple_amb simple_amb
COPY ambctl ambctl
COPY scripts/healthcheck.py .
# unchecked-hash: valid whatever happens to the files' times on their way through registries and layers.
RUN python3 -m compileall -q --invalidation-mode unchecked-hash .

# ---- simple-amb: the standard library is all it needs --------------------------------------------------------------
# Twice: as `ambassador` it exposes nothing, because its ports are those of its links or of `--expose`, and whoever is
# linked to it shall be told of these alone.
FROM python AS ambassador
COPY --from=source /opt/ambassadors/ambcore ambcore
COPY --from=source /opt/ambassadors/ambnet ambnet
COPY --from=source /opt/ambassadors/simple_amb simple_amb
LABEL org.opencontainers.image.title="ambassador" \
      org.opencontainers.image.description="Forwards the ports that its environment names to fixed places"
USER ambassador
# No HEALTHCHECK: a probe would open connections to the target, and would tell about the target, not about us.
ENTRYPOINT ["python3", "-m", "simple_amb"]

FROM ambassador AS simple-amb
LABEL org.opencontainers.image.title="simple-amb" \
      org.opencontainers.image.description="Static ambassador: forwards a port to a fixed place"
# `--link NAME:etcd` gives the linked container ETCD_PORT_10000_TCP only for a port that is exposed.
EXPOSE 10000

# ---- what the other three share ------------------------------------------------------------------------------------
FROM python AS libraries
COPY --from=dependencies /opt/ambassadors /opt/ambassadors

FROM libraries AS agent
COPY --from=source /opt/ambassadors/ambcore ambcore
COPY --from=source /opt/ambassadors/ambnet ambnet
COPY --from=source /opt/ambassadors/healthcheck.py .

FROM agent AS registrar
COPY --from=source /opt/ambassadors/registrar registrar
LABEL org.opencontainers.image.title="registrar" \
      org.opencontainers.image.description="Keeps records in etcd that say where this host's containers serve"
# Root, because /var/run/docker.sock belongs to root and whoever may open it is root on the host anyway. It needs no
# capability: run it with --cap-drop ALL, or with --user 10001:$(stat -c %g /var/run/docker.sock).
HEALTHCHECK --interval=30s --timeout=5s CMD ["python3", "-S", "healthcheck.py"]
ENTRYPOINT ["python3", "-m", "registrar"]

# ---- dynproxy: nft for the kernel plane; iptables for Docker's own chain, which it meets with --network host ---------
FROM libraries AS dynproxy
RUN apt-get update \
 && apt-get install --yes --no-install-recommends nftables iptables \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log
COPY --from=source /opt/ambassadors/ambcore ambcore
COPY --from=source /opt/ambassadors/ambnet ambnet
COPY --from=source /opt/ambassadors/healthcheck.py .
COPY --from=source /opt/ambassadors/dynproxy dynproxy
LABEL org.opencontainers.image.title="dynproxy" \
      org.opencontainers.image.description="Dynamic ambassador: balances TCP and UDP over the instances of a service in etcd"
# Root, because Docker gives the capabilities of --cap-add to root alone, and file capabilities, the other way for a
# user to have CAP_NET_ADMIN, end where no-new-privileges begins. Root without capabilities may do nothing that another
# user may not: run it with --cap-drop ALL --cap-add NET_ADMIN, or without NET_ADMIN, on the relay alone, as any --user.
# Ports below 1024 are open to everyone inside a container (Docker 20.10 and newer).
HEALTHCHECK --interval=30s --timeout=5s CMD ["python3", "-S", "healthcheck.py"]
ENTRYPOINT ["python3", "-m", "dynproxy"]

# ---- grand-ambassador: dynproxy for containers of its own host; it needs Docker's socket as registrar does -----------
FROM dynproxy AS grand-ambassador
LABEL org.opencontainers.image.title="grand-ambassador" \
      org.opencontainers.image.description="Dynamic ambassador for containers of its own host, without etcd"
ENTRYPOINT ["python3", "-m", "dynproxy.grand"]

# ---- ambctl: the operator's tool -----------------------------------------------------------------------------------
FROM agent AS ambctl
COPY --from=dependencies /opt/operator /opt/ambassadors
COPY --from=source /opt/ambassadors/ambctl ambctl
LABEL org.opencontainers.image.title="ambctl" \
      org.opencontainers.image.description="What an operator of ambassadors types and looks at"
USER ambassador
ENTRYPOINT ["python3", "-m", "ambctl"]
