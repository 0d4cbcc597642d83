"""Calls about scalars, console and plots, handed to the service."""

from __future__ import annotations

from taskloom.server.call import Call, Handlers
from taskloom.server.metrics.service import MetricsService
from taskloom.wire.messages import ConsolePage, PlotList, Points, SeriesList


def handlers(metrics: MetricsService) -> Handlers:
    async def list_series(call: Call) -> SeriesList:
        return SeriesList(series=await metrics.list_series(call.path["task"]))

    async def get_points(call: Call) -> Points:
        return await metrics.points(call.path["task"], call.query)

    async def get_console(call: Call) -> ConsolePage:
        return await metrics.console(call.path["task"], call.query)

    async def list_plots(call: Call) -> PlotList:
        return PlotList(plots=await metrics.plots(call.path["task"], call.query))

    return {
        "list_series": list_series,
        "get_points": get_points,
        "get_console": get_console,
        "list_plots": list_plots,
    }
