"use strict";
for (const box of document.querySelectorAll(".lanes")) {
  const pieces = [...box.querySelectorAll(".piece")].sort((a, b) => a.dataset.start - b.dataset.start);
  const [what, scores, text] = box.querySelectorAll(".about p");
  const recording = box.querySelector("audio.recording");
  const clip = box.querySelector("audio.clip");
  const playhead = box.querySelector(".playhead");
  const track = box.querySelector(".lane-track");
  const scroll = box.querySelector(".lane-scroll");
  const zoom = box.querySelector("input");
  const begin = Number(box.dataset.begin), seconds = Number(box.dataset.seconds);
  let stopAt = Infinity;

  const show = (piece) => {
    for (const other of pieces) other.classList.toggle("now", other === piece);
    what.textContent = piece.dataset.what;
    scores.textContent = piece.dataset.scores || "";
    text.textContent = piece.dataset.text || "";
    what.parentElement.style.borderColor = piece.style.backgroundColor;
  };
  // one stop for the Tab key; the arrows go from piece to piece
  const choose = (piece) => {
    for (const other of pieces) other.tabIndex = other === piece ? 0 : -1;
    show(piece);
  };
  const play = (piece) => {
    if (piece.dataset.audio && clip) {
      clip.src = piece.dataset.audio;
      clip.setAttribute("aria-label", `The chosen clip: ${piece.dataset.what}`);
      clip.play();
    } else if (recording) {
      recording.currentTime = Math.max(0, piece.dataset.start - begin);
      stopAt = piece.dataset.end - begin;
      recording.play();
    }
  };
  pieces.forEach((piece, i) => {
    piece.addEventListener("mouseenter", () => show(piece));
    piece.addEventListener("focus", () => choose(piece));
    piece.addEventListener("click", () => { choose(piece); play(piece); });
    piece.addEventListener("keydown", (event) => {
      const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: pieces.length - 1 }[event.key];
      if (to === undefined || !pieces[to]) return;
      event.preventDefault();
      pieces[to].focus();
      pieces[to].scrollIntoView({ block: "nearest", inline: "nearest" });
    });
  });
  if (pieces.length) choose(pieces.find((piece) => piece.dataset.audio) || pieces[0]);
  if (recording) {
    const follow = () => {
      playhead.style.opacity = recording.currentTime > 0 ? 1 : 0;
      playhead.style.left = `${(100 * recording.currentTime) / seconds}%`;
      if (recording.currentTime >= stopAt) { recording.pause(); stopAt = Infinity; }
      if (!recording.paused) requestAnimationFrame(follow);
    };
    recording.addEventListener("play", follow);
    recording.addEventListener("seeked", follow);
    recording.addEventListener("pause", () => { stopAt = Infinity; });
    box.querySelector(".lane.sound").addEventListener("click", (event) => {
      const at = event.currentTarget.getBoundingClientRect();
      recording.currentTime = ((event.clientX - at.left) / at.width) * seconds;
      recording.play();
    });
  }
  zoom.addEventListener("input", () => {
    const middle = (scroll.scrollLeft + scroll.clientWidth / 2) / track.offsetWidth;
    track.style.setProperty("--zoom", zoom.value);
    scroll.scrollLeft = middle * track.offsetWidth - scroll.clientWidth / 2;
  });
}
