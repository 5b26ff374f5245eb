"use strict";
// The frame: says that scripts run, and marks the section in view in the navigation.
document.documentElement.classList.add("js");
(() => {
  const links = new Map([...document.querySelectorAll("nav.sections a")].map((link) => [link.hash.slice(1), link]));
  const sections = [...links.keys()].map((id) => document.getElementById(id)).filter(Boolean);
  const mark = () => {
    const passed = sections.filter((section) => section.getBoundingClientRect().top < innerHeight / 3);
    const current = passed.at(-1) ?? sections[0];
    for (const [id, link] of links) {
      if (id === current?.id) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  };
  let waiting = false;
  addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; mark(); });
  }, { passive: true });
  mark();
  const root = document.documentElement;
  document.getElementById("print-summary")?.addEventListener("click", () => {
    root.classList.add("summary");
    print();
  });
  addEventListener("afterprint", () => root.classList.remove("summary"));
})();
