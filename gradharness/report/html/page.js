"use strict";
(() => {
  const status = document.getElementById("status");

  // Where there is no clipboard to write to (an old browser, a page in a frame), a selection is copied instead.
  const copySelected = (text) => {
    const area = document.createElement("textarea");
    area.value = text;
    area.setAttribute("readonly", "");
    area.className = "unseen";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  };

  const copy = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      return copySelected(text);
    }
  };

  for (const button of document.querySelectorAll("button[data-copy]")) {
    const word = button.querySelector("span");
    let timer = 0;
    button.addEventListener("click", async () => {
      const done = await copy(document.getElementById(button.dataset.copy).textContent);
      word.textContent = done ? "Copied" : "Failed";
      button.classList.toggle("done", done);
      status.textContent = done ? "Copied to the clipboard." : "The browser does not let this page copy.";
      button.focus();
      clearTimeout(timer);
      timer = setTimeout(() => {
        word.textContent = "Copy";
        button.classList.remove("done");
        status.textContent = "";
      }, 2500);
    });
  }

  // A link into a closed part opens it, and paper shows everything.
  const open = () => {
    const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    if (target && target.tagName === "DETAILS") target.open = true;
  };
  addEventListener("hashchange", open);
  open();
  addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll("details:not([open])")) {
      part.open = true;
      part.dataset.closed = "";
    }
  });
  addEventListener("afterprint", () => {
    for (const part of document.querySelectorAll("details[data-closed]")) {
      part.open = false;
      delete part.dataset.closed;
    }
  });
})();
