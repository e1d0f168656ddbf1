"use strict";
// Puts each section that /live sends in the place of the one that is shown. What has the focus, what is scrolled and what
// is selected stays so; a section that a selection lies in is left as it is until there is none.
(() => {
  const connection = document.getElementById("connection");
  const source = new EventSource("/live");
  const reachable = "a[href], [tabindex]";

  const replace = (old, fresh) => {
    const selection = document.getSelection();
    if (!selection.isCollapsed && old.contains(selection.anchorNode)) return;
    const scrolled = [...old.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
    const focus = document.activeElement;
    const key = (element) => element.getAttribute("href") || element.getAttribute("aria-label");
    const focused = old.contains(focus) ? key(focus) : null;
    old.replaceWith(fresh);
    fresh.querySelectorAll(".scroll").forEach((box, at) => { box.scrollLeft = scrolled[at] || 0; });
    if (focused === null) return;
    const again = [...fresh.querySelectorAll(reachable)].find((element) => key(element) === focused);
    if (again) again.focus({ preventScroll: true });
  };

  source.addEventListener("open", () => { connection.textContent = "Live."; });
  source.addEventListener("error", () => { connection.textContent = "Connection lost; trying again."; });
  source.addEventListener("section", (event) => {
    const { id, html } = JSON.parse(event.data);
    const old = document.getElementById(id);
    const fresh = new DOMParser().parseFromString(html, "text/html").getElementById(id);
    if (old && fresh && !old.isEqualNode(fresh)) replace(old, document.adoptNode(fresh));
  });
})();
