// A formula that is wider than the screen scrolls; let the keyboard scroll it. (The
// theme does the same for code and tables.)
for (const event of ["load", "resize"]) {
  addEventListener(event, () => {
    for (const formula of document.querySelectorAll("div.math > math")) {
      formula.tabIndex = formula.scrollWidth > formula.clientWidth ? 0 : -1;
    }
  });
}
// The theme looks at code only if the window changes: let it look at unfolded code.
addEventListener("toggle", () => dispatchEvent(new Event("resize")), true);
