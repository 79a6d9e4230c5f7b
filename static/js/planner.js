// The budget as a slider beside its number field. Without this script the number field does alone.

const number = document.getElementById("id_budget");
const slider = document.getElementById("budget-slider");

if (number && slider) {
  slider.addEventListener("input", () => { number.value = slider.value; });
  number.addEventListener("input", () => { slider.value = number.value; });
}
