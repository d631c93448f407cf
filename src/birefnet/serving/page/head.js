// The lamp: light or dark, as the system says until somebody chooses, and remembered then.
const lamp = element.querySelector(".page-lamp");
const KEY = "birefnet-dark";

function light(dark) {
  document.body.classList.toggle("dark", dark);
  lamp.setAttribute("aria-pressed", String(dark));
}

const chosen = localStorage.getItem(KEY);
light(chosen === null ? matchMedia("(prefers-color-scheme: dark)").matches : chosen === "1");
lamp.addEventListener("click", () => {
  const dark = !document.body.classList.contains("dark");
  localStorage.setItem(KEY, dark ? "1" : "0");
  light(dark);
});
document.documentElement.lang = "en";

// Gradio draws arrows and marks as pictures without a name: screen readers need not stop at them.
function hideMarks() {
  for (const mark of document.querySelectorAll("svg:not([aria-hidden], [role])")) {
    mark.setAttribute("aria-hidden", "true");
  }
}
hideMarks();
new MutationObserver(hideMarks).observe(document.body, { childList: true, subtree: true });
