# One image for web, worker, beat and the migration step; see docker-compose.yml and docs/deployment.md.
FROM python:3.13-slim-bookworm

ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    OVERREAD_DATA_DIR=/data

WORKDIR /app

# The lock file alone, so that a change of the code does not install everything again. --no-deps: the lock is complete.
COPY requirements.lock ./
RUN pip install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes --requirement requirements.lock

COPY . .

# Static files are part of the image and not of a volume: they change with the code. The key exists in this step only.
RUN useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin overread \
    && mkdir -p /data/media \
    && OVERREAD_SECRET_KEY=needed-by-this-step-only python manage.py collectstatic --no-input --verbosity 0 \
    && chown -R overread:overread /data

USER overread
EXPOSE 8000

# On SIGTERM gunicorn finishes the requests under way.
CMD ["gunicorn", "config.wsgi:application", "--bind", "0.0.0.0:8000", "--worker-class", "gthread", \
     "--workers", "2", "--threads", "8", "--worker-tmp-dir", "/dev/shm", "--no-control-socket"]
