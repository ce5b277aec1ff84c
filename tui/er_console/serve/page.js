// The one button of the page: a new console after the last one has ended.
document.querySelector("#start").addEventListener("click", () => window.location.replace("/"));
