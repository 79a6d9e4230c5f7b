"""Every setting, read once from the environment (or from `.env`), with defaults that are safe in production.

`OVERREAD_LOCAL=true` (what `make` writes into `.env`) is for one person's machine: it makes up a secret key, listens on
loopback only, needs no HTTPS and lets connections reach model servers on the local network.
"""

import hashlib
import os
import secrets
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import dj_database_url
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from environs import Env, validate

BASE_DIR = Path(__file__).resolve().parent.parent

env = Env()
env.read_env(str(BASE_DIR / ".env"), recurse=False)

LOCAL: bool = env.bool("OVERREAD_LOCAL", False)
DEBUG: bool = env.bool("OVERREAD_DEBUG", False)

# --- Where things are kept -------------------------------------------------------------------------------------------

DATA_DIR: Path = Path(env.str("OVERREAD_DATA_DIR", str(BASE_DIR / "var"))).resolve()
DATA_DIR.mkdir(parents=True, exist_ok=True)
MEDIA_ROOT = DATA_DIR / "media"


def _runtime_dir() -> Path:
    """A short folder for sockets (their paths are limited to about 107 bytes), one for each user and data folder."""
    digest = hashlib.sha256(str(DATA_DIR).encode()).hexdigest()[:12]
    return (
        Path(tempfile.gettempdir()) / f"overread-{os.getuid() if hasattr(os, 'getuid') else 'user'}-{digest}"
    )


RUNTIME_DIR = _runtime_dir()

# --- Secrets ---------------------------------------------------------------------------------------------------------


def _local_secret_key() -> str:
    path = DATA_DIR / "secret_key"
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(50))
    return path.read_text().strip()


SECRET_KEY: str = env.str("OVERREAD_SECRET_KEY", "") or (_local_secret_key() if LOCAL else "")
if not SECRET_KEY:
    raise ImproperlyConfigured(
        "Set OVERREAD_SECRET_KEY to a long random text (or OVERREAD_LOCAL=true on your own machine)."
    )
# Provider keys are encrypted with the first of these and read with any: put a new one in front to rotate.
ENCRYPTION_KEYS: list[str] = env.list("OVERREAD_ENCRYPTION_KEYS", [SECRET_KEY])

# --- Web -------------------------------------------------------------------------------------------------------------

ALLOWED_HOSTS: list[str] = env.list(
    "OVERREAD_ALLOWED_HOSTS", ["127.0.0.1", "localhost", "[::1]"] if LOCAL else []
)
CSRF_TRUSTED_ORIGINS: list[str] = env.list("OVERREAD_TRUSTED_ORIGINS", [])
HTTPS: bool = env.bool("OVERREAD_HTTPS", not LOCAL)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = HTTPS
SECURE_HSTS_SECONDS: int = env.int("OVERREAD_HSTS_SECONDS", 3600 if HTTPS else 0)
if env.bool("OVERREAD_BEHIND_PROXY", False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_REDIRECT_EXEMPT = [r"^(healthz|readyz|metrics)$"]
SESSION_COOKIE_HTTPONLY = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:", "blob:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "csp",
    "django_htmx",
    "rest_framework",
    "knox",
    "drf_spectacular",
    "jobs",
    "annotate",
    "criticize",
    "review",
    "route",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "annotate.page_parts.parts_are_not_kept",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "jobs.liveness.worker_banner",
                "jobs.health.banners",
            ],
        },
    },
]
FORM_RENDERER = "django.forms.renderers.TemplatesSetting"
INSTALLED_APPS.append("django.forms")

STATIC_URL = "static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

LANGUAGE_CODE = "en"
USE_I18N = True
USE_TZ = True
TIME_ZONE: str = env.str("OVERREAD_TIME_ZONE", "UTC")
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- People ----------------------------------------------------------------------------------------------------------

AUTH_USER_MODEL = "annotate.User"
AUTHENTICATION_BACKENDS = ["annotate.sign_in.SlowingBackend"]
LOGIN_URL = "sign_in"
LOGIN_REDIRECT_URL = "projects"
LOGOUT_REDIRECT_URL = "sign_in"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

# --- Database --------------------------------------------------------------------------------------------------------

DATABASES: dict[str, Any] = {
    "default": dj_database_url.parse(
        env.str("DATABASE_URL", f"sqlite:///{DATA_DIR / 'overread.sqlite3'}"),
        conn_max_age=600,
        conn_health_checks=True,
    )
}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # IMMEDIATE takes the write lock when a transaction starts: one that reads first never fails on its first write.
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;",
    }
else:
    # Compiling a query takes PostgreSQL longer than answering any of ours, which are many and small.
    DATABASES["default"].setdefault("OPTIONS", {})["options"] = "-c jit=off"

# --- Broker, cache, jobs ---------------------------------------------------------------------------------------------

BROKER_SOCKET = RUNTIME_DIR / "broker.sock"
REDIS_URL: str = env.str("REDIS_URL", "")
EMBEDDED_BROKER = not REDIS_URL

if REDIS_URL:
    CACHES = {"default": {"BACKEND": "config.cache.ForgivingRedisCache", "LOCATION": REDIS_URL}}

CELERY_BROKER_URL = f"redis+socket://{BROKER_SOCKET}" if EMBEDDED_BROKER else REDIS_URL
CELERY_RESULT_BACKEND = None
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 3600}
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 1, "interval_start": 0, "interval_step": 0.2}
CELERY_BEAT_SCHEDULE = {
    "sweep": {
        "task": "jobs.tasks.sweep",
        "schedule": timedelta(seconds=env.int("OVERREAD_SWEEP_SECONDS", 10)),
    },
    "forget old answers": {"task": "jobs.tasks.forget_old_answers", "schedule": timedelta(hours=6)},
    "forget sent requests": {"task": "annotate.tasks.forget_sent_requests", "schedule": timedelta(hours=6)},
}
CELERY_BEAT_SCHEDULE_FILENAME = str(DATA_DIR / "beat-schedule")
# Chunks of one job that may run at the same time: as many as there are worker processes to run them.
WORKER_PROCESSES: int = env.int("OVERREAD_WORKER_PROCESSES", 2)
LEASE_SECONDS: int = env.int("OVERREAD_LEASE_SECONDS", 60)
# Lets a Prometheus server read /metrics, as "Authorization: Bearer …"; without it only administrators can.
METRICS_TOKEN: str = env.str("OVERREAD_METRICS_TOKEN", "")
# Days that a model's answers are kept for identical requests; 0 keeps none.
KEEP_ANSWERS_DAYS: int = env.int("OVERREAD_KEEP_ANSWERS_DAYS", 30)
# Rows a result transaction holds; small on SQLite, so that a reviewer never waits behind a long write.
WRITE_BATCH = 50 if DATABASES["default"]["ENGINE"].endswith("sqlite3") else 500

# --- Models and uploads ----------------------------------------------------------------------------------------------

ALLOW_PRIVATE_BASE_URLS: bool = env.bool("OVERREAD_ALLOW_PRIVATE_BASE_URLS", LOCAL)
# Names of environment variables that a connection may take its key from, so that no page can read others.
KEY_VARIABLES: list[str] = env.list(
    "OVERREAD_KEY_VARIABLES", ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"]
)
GGUF_MODEL_DIRS: list[str] = env.list("OVERREAD_GGUF_MODEL_DIRS", [str(DATA_DIR / "models")])
MAX_UPLOAD_BYTES: int = env.int("OVERREAD_MAX_UPLOAD_MB", 2048) * 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 5000
FILE_UPLOAD_HANDLERS = ["annotate.spooling.PromptSpooling"]

# --- API -------------------------------------------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "knox.auth.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PAGINATION_CLASS": "annotate.problems.Pagination",
    "PAGE_SIZE": 100,
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "annotate.problems.problem_details",
}
REST_KNOX = {"TOKEN_TTL": timedelta(days=365), "AUTH_HEADER_PREFIX": "Token"}
SPECTACULAR_SETTINGS = {
    "TITLE": "Overread",
    "DESCRIPTION": "Annotate, criticize, sample, review, export.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "OAS_VERSION": "3.1.0",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "JobState": "jobs.models.Job.State",
        "UploadState": "annotate.models.Upload.State",
        "ModelRunKind": "annotate.models.ModelRun.Kind",
        "RouterKind": "route.models.Router.Kind",
        "VectorKind": "annotate.models.VectorVersion.Kind",
        "AnnotatorStrategy": "annotate.prompts.LABEL_STRATEGIES",
        "CriticizerStrategy": "criticize.strategies.CHOICES",
        "GridRowKind": ["criticism", "combined", "confidence", "cdi"],
        "ModelChoiceKind": [("prompted", "Model"), ("trained", "Trained classifier, no language model")],
        "Role": "annotate.models.Membership.Role",
        "ReviewRoundKind": "review.models.ReviewRound.Kind",
        "ReviewRoundState": "review.models.ReviewRound.State",
        "ReviewTaskState": "review.models.ReviewTask.State",
        "ReviewTaskPurpose": "review.models.ReviewTask.Purpose",
        "ReviewerTaskPurpose": ["review", "adjudication"],
        "RunKind": ["annotation", "criticism"],
        "CorrectionAction": "review.models.Correction.Action",
        "ExportLayout": "review.models.Export.Layout",
        "ExportFormat": "review.models.Export.Format",
    },
}

# --- Logs ------------------------------------------------------------------------------------------------------------

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": "jobs.logs.LineFormatter"}, "json": {"()": "jobs.logs.JsonFormatter"}},
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": env.str("OVERREAD_LOG_FORMAT", "line", validate=validate.OneOf(["line", "json"])),
        }
    },
    "root": {"handlers": ["console"], "level": env.str("OVERREAD_LOG_LEVEL", "INFO")},
}
