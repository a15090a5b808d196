// Light or dark: as the system has it, until the button is pressed.

const button = document.getElementById("theme");

function dark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  button.textContent = dark() ? "Light" : "Dark";
  button.setAttribute("aria-label", dark() ? "Use light colours" : "Use dark colours");
}

setTheme(null);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTheme(null));
button.addEventListener("click", () => setTheme(dark() ? "light" : "dark"));
