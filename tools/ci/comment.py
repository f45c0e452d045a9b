"""Writes a review as one comment of a pull request or one note of a merge request, and updates it later.

The review is the environment variable REVIEW, or the file that REVIEW_FILE names. REVIEW_TOKEN authorizes
the calls; it is sent in a header and nowhere else. On GitHub, COMMENT_AUTHOR is the login that the token
writes as. Only a comment of that author is updated: anyone can write one that begins like a review.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

PAGE = 100  # comments in one response
PAGES = 50
MARKER = re.compile(r"<!-- capacity-claims review [^\n]* -->")


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses redirects, which would send the token to another place."""

    def redirect_request(self, *_: object) -> None:
        return None


OPENER = urllib.request.build_opener(NoRedirect)


def main() -> None:
    review = os.environ.get("REVIEW") or read_file(os.environ.get("REVIEW_FILE", ""))
    found = MARKER.match(review)
    if found is None:
        fail("the text is not a review: it does not begin with the line that identifies one")
    if not os.environ.get("REVIEW_TOKEN"):
        fail("there is no token to comment with: set REVIEW_TOKEN")
    try:
        (on_gitlab if os.environ.get("GITLAB_CI") else on_github)(review, found[0])
    except urllib.error.HTTPError as error:
        fail(f"the review was not written: {error.url} responded with {error.code} {reason(error)}")
    except (OSError, ValueError, http.client.HTTPException) as error:
        fail(f"the review was not written: {error}")
    except KeyError as error:
        fail(
            f"the review was not written: {error} is missing; this runs in GitHub Actions and GitLab CI only"
        )


def read_file(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        fail(f"there is no review to write: {getattr(error, 'strerror', None) or error}")


def on_github(review: str, marker: str) -> None:
    event = json.loads(Path(os.environ["GITHUB_EVENT_PATH"]).read_text(encoding="utf-8"))
    pull = event.get("pull_request") or {}
    if "number" not in pull:
        print("::notice title=Capacity review::This run belongs to no pull request; see the job summary.")
        return
    comments = f"{os.environ['GITHUB_API_URL']}/repos/{os.environ['GITHUB_REPOSITORY']}/issues"
    author = os.environ.get("COMMENT_AUTHOR") or "github-actions[bot]"
    try:
        for each in pages(f"{comments}/{pull['number']}/comments"):
            if (each["user"] or {}).get("login") == author and (each["body"] or "").startswith(marker):
                call("PATCH", f"{comments}/comments/{each['id']}", {"body": review})
                print("Updated the comment.")
                return
        call("POST", f"{comments}/{pull['number']}/comments", {"body": review})
        print("Wrote a comment.")
    except urllib.error.HTTPError as error:
        if error.code != 403:
            raise
        if is_fork(pull):
            print(
                "::notice title=Capacity review::A pull request from a fork cannot be commented on; "
                "see the job summary."
            )
            return
        fail("the token may not comment: give the job the permission `pull-requests: write`")


def is_fork(pull: dict[str, Any]) -> bool:
    head, base = ((pull.get(side) or {}).get("repo") or {} for side in ("head", "base"))
    return head.get("full_name") != base.get("full_name")


def on_gitlab(review: str, marker: str) -> None:
    if not os.environ.get("CI_MERGE_REQUEST_IID"):
        print("This pipeline belongs to no merge request; see the artifacts of the review.")
        return
    api = os.environ["CI_API_V4_URL"]
    merge_request = f"merge_requests/{os.environ['CI_MERGE_REQUEST_IID']}"
    notes = f"{api}/projects/{os.environ['CI_PROJECT_ID']}/{merge_request}/notes"
    author = call("GET", f"{api}/user")["id"]
    for each in pages(f"{notes}?sort=asc"):
        if (each["author"] or {}).get("id") == author and each["body"].startswith(marker):
            call("PUT", f"{notes}/{each['id']}", {"body": review})
            print("Updated the note.")
            return
    call("POST", notes, {"body": review})
    print("Wrote a note.")


def pages(url: str) -> Iterator[dict[str, Any]]:
    """All comments, the oldest first."""
    for page in range(1, PAGES + 1):
        query = urllib.parse.urlencode({"per_page": PAGE, "page": page})
        found = call("GET", f"{url}{'&' if '?' in url else '?'}{query}")
        yield from found
        if len(found) < PAGE:
            return


def call(method: str, url: str, body: object = None) -> Any:
    request = urllib.request.Request(url, method=method, data=json.dumps(body).encode() if body else None)
    token = os.environ["REVIEW_TOKEN"]
    if os.environ.get("GITLAB_CI"):
        request.add_header("PRIVATE-TOKEN", token)
    else:
        request.add_header("Authorization", f"Bearer {token}")
        request.add_header("Accept", "application/vnd.github+json")
    request.add_header("Content-Type", "application/json")
    with OPENER.open(request, timeout=30) as response:
        return json.load(response)


def reason(error: urllib.error.HTTPError) -> str:
    """What the API says about an error, in one line."""
    try:
        said = str(json.loads(error.read(10_000))["message"])
    except (ValueError, KeyError, TypeError):
        said = str(error.reason)
    return "".join(character if character.isprintable() else " " for character in said)[:200]


def fail(message: str) -> NoReturn:
    """Report an error in one line."""
    if os.environ.get("GITHUB_ACTIONS") == "true":
        print(f"::error title=Capacity review::{message.replace('%', '%25')}")
        sys.exit(1)
    sys.exit(f"error: {message}")


if __name__ == "__main__":
    main()
