# Tributary and its jobs, on a small base, for a user without rights.
#
#   docker build -t tributary .
#   docker run --rm -e KAFKA_BOOTSTRAP_SERVERS=... -e LAKE=s3://... -e CHECKPOINTS=s3://... tributary

FROM rust:1.95-bookworm AS build
WORKDIR /src
# Not rust-toolchain.toml: it would fetch a second toolchain beside the one of this image.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY src src
# Compiled in, for the demo.
COPY jobs jobs
# Cargo wants every target that Cargo.toml names to be there.
COPY benches benches
RUN cargo build --profile dist --locked --bin tributary

FROM debian:bookworm-slim
# What S3, Glue and Kafka over TLS are trusted by.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /src/target/dist/tributary /usr/local/bin/tributary
COPY jobs /tributary/jobs
RUN useradd --system --uid 10001 --home-dir /tributary --shell /usr/sbin/nologin tributary \
    && mkdir /data && chown tributary /data
USER 10001
WORKDIR /tributary
VOLUME /data
ENV LAKE=/data/lake \
    CHECKPOINTS=/data/checkpoints \
    TRIBUTARY_HTTP=0.0.0.0:9090
EXPOSE 9090
# There is no curl in the base, but bash can ask by itself.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/9090 && printf 'GET /health HTTP/1.0\\r\\n\\r\\n' >&3 && read -r answer <&3 && [[ $answer == *' 200 '* ]]"]
ENTRYPOINT ["tributary"]
CMD ["run", "jobs/emergency.sql"]
