"""Connections to providers, and what their models cost."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from annotate.access import connection_for, connections_of, require_staff
from annotate.connections import OFFERED_PROVIDERS, ConnectionProblem, list_models, try_model
from annotate.errors import Refusal
from annotate.forms import ConnectionForm, PriceForm, sent
from annotate.models import Connection, ModelPrice
from annotate.requests import PageRequest, number_of
from annotate.services.connections import connection_delete, connection_save, price_delete, price_save
from mllm.prices import DEFAULT_PRICES, NOTE
from mllm.registry import PROVIDERS

_SHOWN_MODELS = 200
_SUGGESTED_NAMES = {"openai": "OpenAI", "anthropic": "Anthropic", "gguf": "This machine"}


@require_http_methods(["GET"])
def connections(request: PageRequest) -> HttpResponse:
    return render(
        request,
        "connections/list.html",
        {"connections": connections_of(request.user), "providers": PROVIDERS},
    )


@require_http_methods(["GET", "POST"])
def connection_new(request: PageRequest) -> HttpResponse:
    asked_for = request.GET.get("provider", "")
    chosen = asked_for if asked_for in OFFERED_PROVIDERS else OFFERED_PROVIDERS[0]
    initial = {"provider": chosen, "name": _SUGGESTED_NAMES[chosen]}
    return _form_page(request, Connection(owner=request.user), initial=initial)


@require_http_methods(["GET", "POST"])
def connection(request: PageRequest, connection_id: int) -> HttpResponse:
    return _form_page(request, connection_for(request.user, connection_id), initial={})


def _form_page(request: PageRequest, row: Connection, *, initial: dict[str, str]) -> HttpResponse:
    form = ConnectionForm(sent(request), connection=row, initial=initial)
    is_new = row.pk is None
    title = row.name
    if request.method == "POST" and form.is_valid():
        try:
            connection_save(connection=row, **form.values())
        except Refusal as refusal:
            if isinstance(refusal, ConnectionProblem) and not refusal.field:
                refusal.field = "base_url"
            form.refuse(refusal)
        else:
            messages.success(request, "The connection is saved. Test it below.")
            return redirect("connection", row.pk)
    context = {"connection": row, "form": form, "is_new": is_new, "title": title, "providers": PROVIDERS}
    return render(request, "connections/form.html", context, status=422 if form.errors else 200)


@require_POST
def connection_test(request: PageRequest, connection_id: int) -> HttpResponse:
    """Ask the provider for its models; with a model, for one short answer."""
    row = connection_for(request.user, connection_id)
    model = request.POST.get("model", "").strip()
    context: dict[str, object] = {"connection": row, "model": model}
    try:
        if model:
            context["reply"] = try_model(row, model)
        else:
            models = list_models(row)
            context |= {"models": models[:_SHOWN_MODELS], "model_count": len(models)}
    except Refusal as problem:
        context["problem"] = problem.sentence
    if request.htmx:
        return render(request, "connections/test_result.html", context)
    return render(request, "connections/test_page.html", context)


@require_POST
def connection_remove(request: PageRequest, connection_id: int) -> HttpResponse:
    row = connection_for(request.user, connection_id)
    name = row.name
    connection_delete(connection=row)
    messages.success(request, f"The connection “{name}” is deleted.")
    return redirect("connections")


@require_http_methods(["GET", "POST"])
def prices(request: PageRequest) -> HttpResponse:
    """Everybody sees the prices; staff change them, since all projects share them."""
    if request.method == "POST":
        require_staff(request.user)
    form = PriceForm(sent(request))
    if request.method == "POST" and form.is_valid():
        try:
            price_save(user=request.user, **form.cleaned_data)
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            messages.success(request, f"The price of {form.cleaned_data['model']} is saved.")
            return redirect("prices")
    own = list(ModelPrice.objects.select_related("updated_by"))
    edited = number_of(request.GET.get("edit", "")) if request.method == "GET" else None
    if edited is not None:
        form = PriceForm.of(get_object_or_404(ModelPrice, pk=edited))
    replaced = {(price.provider, price.model) for price in own}
    context = {
        "form": form,
        "note": NOTE,
        "own": own,
        "shipped": [
            (
                PROVIDERS[provider].label,
                [(model, price, (provider, model) in replaced) for model, price in table.items()],
            )
            for provider, table in DEFAULT_PRICES.items()
            if provider in ("openai", "anthropic")
        ],
    }
    return render(request, "connections/prices.html", context, status=422 if form.errors else 200)


@require_POST
def price_remove(request: PageRequest, price_id: int) -> HttpResponse:
    require_staff(request.user)
    price_delete(price=get_object_or_404(ModelPrice, pk=price_id))
    messages.success(request, "The price is removed: the one that ships counts again, where there is one.")
    return redirect("prices")
