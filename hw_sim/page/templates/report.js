for (const slider of document.querySelectorAll(".slider")) {
  const range = slider.querySelector("input"), output = slider.querySelector("output");
  const frames = slider.parentElement.querySelectorAll(".frame"), names = JSON.parse(slider.dataset.frames);
  const show = () => {
    for (const frame of frames) frame.style.visibility = frame.dataset.frame === range.value ? "visible" : "hidden";
    output.textContent = range.value === "0" ? "the image" : names[range.value - 1];
    range.setAttribute("aria-valuetext", output.textContent);
  };
  range.addEventListener("input", show);
  slider.hidden = false;
  show();
}
