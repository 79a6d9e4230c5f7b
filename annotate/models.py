"""Projects and what they hold, up to what annotators said."""

import uuid
from decimal import Decimal

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models import Q
from django.utils import timezone

from annotate.task_types import TASK_TYPES, TaskType, get_task_type
from jobs.models import Job, ModelCall
from mllm.registry import PROVIDERS


class User(AbstractUser):
    review_keys = models.JSONField(
        default=dict,
        blank=True,
        help_text="Keys of the review screen that differ from the usual, by command.",
    )


class Project(models.Model):
    name = models.CharField(max_length=120)
    task_type = models.CharField(
        max_length=32, choices=[(key, task.label) for key, task in TASK_TYPES.items()]
    )
    instructions = models.TextField(
        blank=True, help_text="What the labels mean and how to decide. Models and reviewers both read this."
    )
    sample = models.CharField(
        max_length=32, blank=True, help_text="Name of the sample data set, if it is one."
    )
    seed = models.PositiveIntegerField(
        default=42, help_text="Every draw and split of this project starts from it."
    )
    review_price = models.DecimalField(
        max_digits=8,
        decimal_places=4,
        default=Decimal("0.08"),
        help_text="What one human review costs, in US$. Used wherever people's and models' costs are compared.",
    )
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    members: "models.ManyToManyField[User, Membership]" = models.ManyToManyField(
        User, through="Membership", related_name="projects"
    )

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.name

    @property
    def task(self) -> TaskType:
        return get_task_type(self.task_type)


class Membership(models.Model):
    class Role(models.TextChoices):
        OWNER = "owner", "Owner"
        MANAGER = "manager", "Manager"
        REVIEWER = "reviewer", "Reviewer"
        VIEWER = "viewer", "Viewer"

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=16, choices=Role)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "user"], name="one_role_a_member")]
        ordering = ["created_at"]

    def __str__(self) -> str:
        return f"{self.user} is {self.role} of {self.project}"


class Invitation(models.Model):
    """A link that makes whoever opens it a member. It is signed and not kept; this row is what can be ended."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="invitations")
    role = models.CharField(max_length=16, choices=Membership.Role)
    note = models.CharField(max_length=120, blank=True, help_text="Whom it is for.")
    most_uses = models.PositiveIntegerField(default=1)
    uses = models.PositiveIntegerField(default=0)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                condition=Q(uses__lte=models.F("most_uses")), name="invitation_not_overused"
            )
        ]

    def __str__(self) -> str:
        return f"{self.project}: {self.role}"


class Change(models.Model):
    """That somebody changed something in a project, other than an answer, which is a correction. Append-only."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="changes")
    actor = models.ForeignKey(
        User, on_delete=models.PROTECT, null=True, related_name="+", help_text="Empty: the product itself."
    )
    action = models.CharField(max_length=40, help_text="What happened, such as `round closed`.")
    subject = models.CharField(max_length=200, blank=True, help_text="To what, as people call it.")
    subject_id = models.BigIntegerField(null=True)
    old = models.JSONField(null=True)
    new = models.JSONField(null=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["project", "-id"], name="change_newest")]

    def __str__(self) -> str:
        return f"{self.action} {self.subject}"


class Label(models.Model):
    """One of the label set. `position` is the index that models answer with; it never changes once used."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="labels")
    position = models.PositiveSmallIntegerField()
    name = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    guideline = models.TextField(
        blank=True, help_text="Markdown for reviewers: how to decide. Models read the description alone."
    )
    upload = models.ForeignKey(
        "Upload",
        on_delete=models.SET_NULL,
        null=True,
        related_name="labels_made",
        help_text="Whose gold column made it; empty: people did.",
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "position"], name="label_position"),
            models.UniqueConstraint(fields=["project", "name"], name="label_name"),
        ]
        ordering = ["project", "position"]

    def __str__(self) -> str:
        return self.name


def upload_path(upload: "Upload", filename: str) -> str:
    return f"uploads/{upload.project_id}/{uuid.uuid4().hex}"


class Upload(models.Model):
    """A file as it came. Nothing is imported until its columns are mapped; the file is kept, so nothing is lost."""

    class State(models.TextChoices):
        RECEIVED = "received", "Waiting for its columns"
        IMPORTING = "importing", "Importing"
        DONE = "done", "Imported"
        FAILED = "failed", "Failed"

    class Step(models.TextChoices):
        """Of an import that is going on."""

        CHECKING = "checking", "Checking all rows"
        WRITING = "writing", "Bringing rows in"
        UNDOING = "undoing", "Taking back what came in"

    class IfDifferent(models.TextChoices):
        """What happens to a row whose id an item of the project has, with other content."""

        KEEP = "keep", "Keep the item and list the row as rejected"
        REPLACE = "replace", "Replace the item, unless something was done with it"

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="uploads")
    file = models.FileField(upload_to=upload_path, max_length=255)
    filename = models.CharField(max_length=255)
    size = models.PositiveBigIntegerField()
    sha256 = models.CharField(max_length=64, blank=True, help_text="Of the file, to know it again.")
    kind = models.CharField(max_length=16, blank=True)
    encoding = models.CharField(max_length=32, blank=True)
    state = models.CharField(max_length=16, choices=State, default=State.RECEIVED)
    reason = models.TextField(blank=True)
    columns = models.JSONField(default=list, help_text="The file's columns in their order.")
    mapping = models.JSONField(default=dict)
    add_labels = models.BooleanField(
        default=False, help_text="Make labels of gold values that are not labels yet."
    )
    all_or_nothing = models.BooleanField(
        default=False, help_text="Import nothing where a single row would be rejected."
    )
    if_different = models.CharField(max_length=8, choices=IfDifferent, default=IfDifferent.KEEP)
    step = models.CharField(max_length=8, choices=Step, blank=True)
    job = models.OneToOneField(Job, on_delete=models.SET_NULL, null=True, blank=True, related_name="upload")
    imported = models.PositiveIntegerField(default=0, help_text="Rows that became new items.")
    repeated = models.PositiveIntegerField(
        default=0, help_text="Rows that were there already, with the same content."
    )
    differing = models.PositiveIntegerField(
        default=0, help_text="Rows whose id was there with other content: replaced, or among the rejected."
    )
    replaced = models.PositiveIntegerField(default=0, help_text="Items that took a row's content.")
    rejected = models.PositiveIntegerField(default=0)
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.filename


class RejectedRow(models.Model):
    """A row of an upload that could not become an item, and why."""

    upload = models.ForeignKey(Upload, on_delete=models.CASCADE, related_name="rejected_rows")
    row = models.PositiveIntegerField()
    message = models.TextField()

    class Meta:
        ordering = ["row"]
        constraints = [models.UniqueConstraint(fields=["upload", "row"], name="one_rejection_a_row")]

    def __str__(self) -> str:
        return f"Row {self.row}: {self.message}"


class StoredImage(models.Model):
    """An image of a project, kept once however many items show it."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="images")
    sha256 = models.CharField(max_length=64)
    file = models.FileField(max_length=255)
    media_type = models.CharField(max_length=32)
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "sha256"], name="image_once_a_project")]

    def __str__(self) -> str:
        return f"{self.media_type} {self.width}×{self.height}"


class Item(models.Model):
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="items")
    upload = models.ForeignKey(Upload, on_delete=models.RESTRICT, null=True, related_name="items")
    external_id = models.CharField(max_length=255)
    text = models.TextField(blank=True)
    question = models.TextField(blank=True)
    image = models.ForeignKey(StoredImage, on_delete=models.RESTRICT, null=True, related_name="items")
    file_name = models.CharField(max_length=500, blank=True, help_text="Name of its image in the upload.")
    columns = models.JSONField(default=dict)
    gold = models.ForeignKey(Label, on_delete=models.RESTRICT, null=True, related_name="gold_items")
    gold_answers = models.JSONField(
        null=True,
        help_text="Where answers are spans of the text: those that are right, each `{text, start}`; "
        "none of them where it has no answer, null where none is known.",
    )
    replaced_at = models.DateTimeField(null=True, help_text="When an upload gave it other content.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "external_id"], name="external_id_once")]
        indexes = [models.Index(fields=["project", "id"], name="item_in_order")]
        ordering = ["id"]

    def __str__(self) -> str:
        return self.external_id


class LabelExample(models.Model):
    """An item that shows what a label means, beside its guideline."""

    label = models.ForeignKey(Label, on_delete=models.CASCADE, related_name="examples")
    item = models.ForeignKey(Item, on_delete=models.CASCADE, related_name="+")
    note = models.CharField(max_length=500, blank=True, help_text="Why it is one.")
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["label", "item"], name="example_once_a_label")]

    def __str__(self) -> str:
        return f"{self.item} for {self.label}"


class Comment(models.Model):
    """What somebody says about an item: a note from the review screen, or an answer to one."""

    item = models.ForeignKey(Item, on_delete=models.CASCADE, related_name="comments")
    author = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    text = models.TextField()
    resolved_by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, related_name="+")
    resolved_at = models.DateTimeField(null=True)
    key = models.UUIDField(
        default=uuid.uuid4, unique=True, help_text="The same comment sent twice is kept once."
    )
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["item", "id"], name="comment_of_item")]

    def __str__(self) -> str:
        return f"{self.author} on {self.item}"


class SavedView(models.Model):
    """A way to look at a project's items, by its address's query; every member who browses sees it."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="saved_views")
    name = models.CharField(max_length=80)
    query = models.CharField(max_length=2000, blank=True)
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["project", "name"], name="view_name")]

    def __str__(self) -> str:
        return self.name


class CalibrationLabel(models.Model):
    """A label that a person gave without seeing a machine's: from the upload's gold column or made in the browser."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="calibration_labels")
    item = models.OneToOneField(Item, on_delete=models.CASCADE, related_name="calibration_label")
    label = models.ForeignKey(Label, on_delete=models.RESTRICT, null=True, related_name="+")
    answers = models.JSONField(
        null=True, help_text="Instead of a label where answers are spans: as an item's gold answers."
    )
    author = models.ForeignKey(
        User, on_delete=models.PROTECT, null=True, related_name="+", help_text="Empty: from the gold column."
    )
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(label__isnull=False, answers__isnull=True)
                | Q(label__isnull=True, answers__isnull=False),
                name="calibration_label_or_answers",
            )
        ]

    def __str__(self) -> str:
        return f"{self.item}: {self.label or self.answers}"


class Connection(models.Model):
    """A way to reach a provider. Its key is encrypted here or named in the environment, and never shown."""

    name = models.CharField(max_length=80)
    provider = models.CharField(max_length=16, choices=[(key, info.label) for key, info in PROVIDERS.items()])
    base_url = models.CharField(max_length=500, blank=True)
    encrypted_key = models.TextField(blank=True)
    key_variable = models.CharField(
        max_length=80, blank=True, help_text="Environment variable that holds the key, instead of storing it."
    )
    in_flight = models.PositiveSmallIntegerField(default=8, help_text="Calls at once.")
    timeout = models.PositiveSmallIntegerField(default=60, help_text="Seconds for one call.")
    requests_per_minute = models.PositiveIntegerField(
        default=0, help_text="0: as many as the calls at once allow."
    )
    tokens_per_minute = models.PositiveIntegerField(
        default=0, help_text="Input and output together; 0: no limit."
    )
    owner = models.ForeignKey(User, on_delete=models.CASCADE, related_name="connections")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["owner", "name"], name="connection_name")]
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def key_of_jobs(self) -> str:
        """What jobs over this connection have in common: they share its calls at once and its limits a minute."""
        return f"connection {self.pk}"

    @property
    def has_key(self) -> bool:
        return bool(self.encrypted_key or self.key_variable)


class ModelPrice(models.Model):
    """US$ per million tokens for models whose name starts with `model`. Goes before the table that ships."""

    provider = models.CharField(max_length=16, choices=[(key, info.label) for key, info in PROVIDERS.items()])
    model = models.CharField(max_length=200, help_text="A name or its beginning; the longest match counts.")
    input = models.DecimalField(max_digits=10, decimal_places=4)
    output = models.DecimalField(max_digits=10, decimal_places=4)
    cached_input = models.DecimalField(max_digits=10, decimal_places=4, null=True, blank=True)
    updated_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["provider", "model"], name="one_price_a_model"),
            models.CheckConstraint(condition=Q(input__gte=0, output__gte=0), name="price_not_negative"),
        ]
        ordering = ["provider", "model"]

    def __str__(self) -> str:
        return f"{self.provider} {self.model}"


class ModelRun(models.Model):
    """Who answers, with what: the base of annotation and criticism runs."""

    class Kind(models.TextChoices):
        PROMPTED = "prompted", "Model"
        TRAINED = "trained", "Trained classifier, no language model"
        VOTED = "voted", "Vote of several annotators"
        ROUTED = "routed", "Several annotators, each with its share of the items"

    kind = models.CharField(max_length=16, choices=Kind)
    connection = models.ForeignKey(
        Connection, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    provider = models.CharField(max_length=16, blank=True)
    model = models.CharField(max_length=200, blank=True)
    strategy = models.CharField(max_length=16, blank=True)
    answer_format = models.CharField(max_length=16, blank=True)
    prompt_version = models.CharField(max_length=40, blank=True)
    parameters = models.JSONField(default=dict)
    seed = models.PositiveIntegerField(default=42)
    job = models.OneToOneField(Job, on_delete=models.PROTECT, related_name="%(class)s")
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        abstract = True

    @property
    def who(self) -> str:
        """As pages name it."""
        if self.kind == self.Kind.TRAINED:
            return f"trained on your {self.parameters.get('training_items', 0)} labels, no language model"
        if self.kind == self.Kind.VOTED:
            return f"vote of {len(self.parameters.get('sources', []))} annotators"
        if self.kind == self.Kind.ROUTED:
            return f"routed to {' and '.join(self.parameters.get('agents', []))}"
        return f"{self.model} · {self.strategy}"


class AnnotationRun(ModelRun):
    """An annotator at work on a project's items, or on its calibration items alone: then it is a candidate.

    `sources` are the runs that a vote counts, whose answers a discussing annotator is shown, or that each answered a
    part of the items.
    """

    class Scope(models.TextChoices):
        PROJECT = "project", "All items but the calibration items"
        CALIBRATION = "calibration", "Calibration items"
        PART = "part", "The items that a plan gave it"

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="annotation_runs")
    scope = models.CharField(max_length=16, choices=Scope, default=Scope.PROJECT)
    sources: "models.ManyToManyField[AnnotationRun, models.Model]" = models.ManyToManyField(
        "self", symmetrical=False, blank=True, related_name="combined_in"
    )

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"Annotation {self.pk}: {self.who}"


class SpanAnswer(models.Model):
    """The place of an answer that is a span of the item's text: characters `start` to `end`, without the last.

    Empty where answers are no spans. Both are 0, and the answer is empty, where the text holds no answer.
    """

    start = models.PositiveIntegerField(null=True)
    end = models.PositiveIntegerField(null=True)

    class Meta:
        abstract = True


class Annotation(SpanAnswer, ModelCall):
    """What the annotator said about one item: a label, or an answer in words. Neither where it failed.

    An item that a router gave to people has the failure `TO_PERSON`. `steps` are those of the reasoning where a router
    read along; it stopped the annotator after step `stopped_at`, counted from 1.
    """

    TO_PERSON = "to_person"
    # The end of a message: what the provider did not tell of a stream that was stopped or broke off.
    ESTIMATED = "Its tokens are an estimate: the provider had not told them."

    run = models.ForeignKey(AnnotationRun, on_delete=models.CASCADE, related_name="annotations")
    item = models.ForeignKey(Item, on_delete=models.CASCADE, related_name="annotations")
    label = models.ForeignKey(Label, on_delete=models.RESTRICT, null=True, related_name="annotations")
    answer = models.TextField(blank=True, help_text="Where the task's answers are written.")
    confidence = models.FloatField(null=True, help_text="Between 0 and 1, where the annotator gives one.")
    steps = models.JSONField(null=True)
    stopped_at = models.PositiveSmallIntegerField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "item"], name="one_annotation_an_item"),
            models.CheckConstraint(
                condition=Q(failure="", label__isnull=False, answer="", start__isnull=True)
                | (
                    Q(failure="", label__isnull=True)
                    & (~Q(answer="") | Q(start__isnull=False, start=0, end=0))
                )
                | (~Q(failure="") & Q(label__isnull=True, answer="", start__isnull=True)),
                name="annotation_answer_or_failure",
            ),
            models.CheckConstraint(
                condition=Q(start__isnull=True, end__isnull=True) | Q(start__lte=models.F("end")),
                name="annotation_span_in_order",
            ),
        ]
        indexes = [
            models.Index(fields=["run", "failure"], name="annotation_failed", condition=~Q(failure="")),
            models.Index(fields=["run", "label", "item"], name="annotation_by_label"),
            models.Index(
                fields=["run", "confidence", "item"],
                name="annotation_by_confidence",
                condition=Q(confidence__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.item}: {self.label or self.answer[:80] or self.failure}"

    @property
    def has_estimated_tokens(self) -> bool:
        return bool(self.message.endswith(self.ESTIMATED))

    @property
    def explanation(self) -> str:
        """The message without what is said of its tokens, which matters to who pays and to nobody else."""
        return self.message.removesuffix(self.ESTIMATED).rstrip()


class VectorVersion(models.Model):
    """One way of turning a project's items into vectors, as it was fitted; each item has one vector of it at most.

    What is fitted is kept, so that items which come later get their vectors in the same way.
    """

    class Kind(models.TextChoices):
        PLAIN = "plain", "Words, colors and gradients"
        EMBEDDINGS = "embeddings", "Embeddings of a provider"
        LOCAL = "local", "Text encoder on this machine"

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="vector_versions")
    kind = models.CharField(max_length=16, choices=Kind)
    connection = models.ForeignKey(
        Connection, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    provider = models.CharField(max_length=16, blank=True)
    model = models.CharField(max_length=200, blank=True)
    parameters = models.JSONField(default=dict)
    choice = models.CharField(max_length=64, help_text="Digest of kind, provider, model and parameters.")
    fitted = models.BinaryField(
        null=True, help_text="What was learned from the items, as arrays; empty until its job has done that."
    )
    digest = models.CharField(max_length=64, blank=True, help_text="Of the choice and of what was learned.")
    width = models.PositiveIntegerField(default=0, help_text="Numbers in a vector; 0 until that is known.")
    seed = models.PositiveIntegerField(default=42)
    job = models.OneToOneField(Job, on_delete=models.PROTECT, related_name="vector_version")
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["project", "choice", "-id"], name="vectors_newest")]

    def __str__(self) -> str:
        return f"Vectors {self.pk} ({self.kind})"


class ItemVector(models.Model):
    """An item's vector: float32 numbers, the lowest byte first. None where it failed, and then why."""

    version = models.ForeignKey(VectorVersion, on_delete=models.CASCADE, related_name="vectors")
    item = models.ForeignKey(Item, on_delete=models.CASCADE, related_name="vectors")
    vector = models.BinaryField(null=True)
    failure = models.CharField(max_length=32, blank=True, default="")
    message = models.TextField(blank=True, default="", help_text="The failure in the user's words.")
    recorded_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["version", "item"], name="one_vector_an_item"),
            models.CheckConstraint(
                condition=Q(failure="", vector__isnull=False) | (~Q(failure="") & Q(vector__isnull=True)),
                name="vector_or_failure",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.item}: {self.failure or self.version}"


class SentRequest(models.Model):
    """A POST that came with a key of the client's own, and what it was answered: sent again, it is not done again."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64, help_text="Digest of the address and of what was sent.")
    status = models.PositiveSmallIntegerField(null=True, help_text="Empty while the request is at work.")
    answer = models.TextField(blank=True, help_text="JSON, encrypted: it may hold a token.")
    sent_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "key"], name="one_request_a_key")]

    def __str__(self) -> str:
        return f"Request {self.key} of {self.user_id}"
