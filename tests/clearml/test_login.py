"""Login: our API keys are ClearML's credentials."""

from __future__ import annotations

from tests.clearml.conftest import ClearML


def test_the_session_of_an_unmodified_client_logs_in(clearml: ClearML) -> None:
    ran = clearml.run(
        """
        from clearml.backend_api import Session
        session = Session()
        answer = session.send_request("users", "get_current_user")
        print("status=%d" % answer.status_code)
        print("name=%s" % answer.json()["data"]["user"]["name"])
        print("api=%s" % Session.api_version)
        """
    ).ok()
    assert ran.said("status") == "200"
    assert ran.said("name") == "admin"
    assert ran.said("api") == "2.34"


def test_wrong_keys_are_refused_with_clearmls_own_error(clearml: ClearML) -> None:
    clearml.extra["CLEARML_API_SECRET_KEY"] = "wrong"
    ran = clearml.run(
        """
        from clearml.backend_api import Session
        try:
            Session()
        except Exception as error:
            print("error=%s" % str(error).replace(chr(10), " "))
        """
    )
    assert "401" in ran.said("error")


def test_a_call_that_is_not_served_names_itself_and_is_counted(clearml: ClearML) -> None:
    ran = clearml.run(
        """
        from clearml.backend_api import Session
        session = Session()
        for _ in range(2):
            answer = session.send_request("reports", "get_all_ex", json={})
        print("status=%d" % answer.status_code)
        print("says=%s" % answer.json()["meta"]["result_msg"])
        """
    ).ok()
    assert ran.said("status") == "404"
    assert "reports.get_all_ex" in ran.said("says")
    from taskloom.wire.operations import LIST_UNSERVED

    found = clearml.house.client.call(LIST_UNSERVED).calls
    assert [(one.call, one.count) for one in found] == [("reports.get_all_ex", 2)]
    assert "clearml-2.1.12" in found[0].client
