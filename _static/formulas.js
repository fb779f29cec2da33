// A formula that is wider than the screen scrolls; let the keyboard scroll it.
// (The theme does the same for code and tables.)
function addTabStops() {
  for (const formula of document.querySelectorAll("div.math > math")) {
    if (formula.scrollWidth > formula.clientWidth) {
      formula.setAttribute("tabindex", "0");
    } else {
      formula.removeAttribute("tabindex");
    }
  }
}

window.addEventListener("load", addTabStops);
window.addEventListener("resize", addTabStops);
