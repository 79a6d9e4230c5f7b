"""Pausing, resuming and cancelling a plan with all the runs that it started, and the watch over it."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.api.runs import NothingSerializer, ResumeSerializer
from route.api.routers import RouterEndpoint, RoutingPlanSerializer
from route.services.plans import plan_act
from route.watch import watch_of


class WatchedSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    items = serializers.IntegerField()
    share = serializers.FloatField(help_text="Of the plan's items.")
    judged = serializers.IntegerField(
        help_text="Of its items, those that people answered since it was started."
    )
    right = serializers.IntegerField(help_text="Of these, those that it has right.")
    accuracy = serializers.FloatField(allow_null=True, help_text="null while nothing is judged.")
    low = serializers.FloatField(allow_null=True, help_text="Wilson's 95% interval.")
    high = serializers.FloatField(allow_null=True)


class WatchSerializer(serializers.Serializer[Any]):
    whole = WatchedSerializer()
    agents = WatchedSerializer(many=True)
    cost = serializers.FloatField(help_text="US$ spent on the plan's answers so far.")


class PlanWatch(RouterEndpoint):
    @extend_schema(
        summary="What a plan's agents get and cost, and how right they are by what people said since",
        responses=WatchSerializer,
    )
    def get(self, request: Request, plan_id: int) -> Response:
        return self.reply(WatchSerializer, watch_of(self.plan(plan_id)))


class PlanPause(RouterEndpoint):
    @extend_schema(
        summary="Start no more calls of a plan", request=NothingSerializer, responses=RoutingPlanSerializer
    )
    def post(self, request: Request, plan_id: int) -> Response:
        self.given(NothingSerializer)
        plan = self.plan(plan_id)
        plan_act(plan=plan, user=self.user, action="pause")
        return self.reply(RoutingPlanSerializer, self.plan(plan_id))


class PlanResume(RouterEndpoint):
    @extend_schema(
        summary="Go on with a paused plan", request=ResumeSerializer, responses=RoutingPlanSerializer
    )
    def post(self, request: Request, plan_id: int) -> Response:
        given = self.given(ResumeSerializer)
        plan = self.plan(plan_id)
        plan_act(plan=plan, user=self.user, action="resume", spend_limit=given.get("spend_limit"))
        return self.reply(RoutingPlanSerializer, self.plan(plan_id))


class PlanCancel(RouterEndpoint):
    @extend_schema(summary="End a plan for good", request=NothingSerializer, responses=RoutingPlanSerializer)
    def post(self, request: Request, plan_id: int) -> Response:
        self.given(NothingSerializer)
        plan = self.plan(plan_id)
        plan_act(plan=plan, user=self.user, action="cancel")
        return self.reply(RoutingPlanSerializer, self.plan(plan_id))
