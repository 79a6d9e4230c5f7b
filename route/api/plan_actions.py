"""Pausing, resuming and cancelling a plan with all the runs that it started."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.api.runs import NothingSerializer, ResumeSerializer
from route.api.routers import RouterEndpoint, RoutingPlanSerializer
from route.services.plans import plan_act


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
